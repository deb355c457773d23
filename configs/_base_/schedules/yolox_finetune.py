# For few images from given weights: AdamW, and a good part of the training without mosaic.

_base_ = "./yolox.py"

# ---- often changed ----
max_epochs = 45
learning_rate = 0.008  # for base_batch_size images a step
weight_decay = 0.05
warmup_epochs = 1
last_epochs = "${max_epochs // 3}"  # without mosaic and mixup
constant_epochs = 1

# ---- the rest ----
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type="AdamW", lr="${learning_rate}", weight_decay="${weight_decay}"
    )
)
