# Warm-up, then the learning rate falls by a factor at 2/3 and 8/9 of the epochs.

_base_ = "./cosine.py"

# ---- often changed ----
max_epochs = 36
learning_rate = 0.01  # for base_batch_size images a step
weight_decay = 1e-4
step_factor = 0.1

# ---- the rest ----
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type="SGD",
        lr="${learning_rate}",
        momentum=0.9,
        weight_decay="${weight_decay}",
        fused=True,
    )
)
param_scheduler = [
    _base_.param_scheduler[0],  # warm-up
    dict(
        type="MultiStepLR",
        milestones=["${int(max_epochs * 2 / 3)}", "${int(max_epochs * 8 / 9)}"],
        gamma="${step_factor}",
    ),
]
