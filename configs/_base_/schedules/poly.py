# Warm-up, then the learning rate falls along a polynomial, as segmentation is trained.

_base_ = "./multistep.py"

# ---- often changed ----
max_epochs = 60
poly_power = 0.9

# ---- the rest ----
param_scheduler = [
    _base_.param_scheduler[0],  # warm-up
    dict(
        type="PolyLR",
        eta_min="${learning_rate * 0.01}",
        power="${poly_power}",
        begin="${warmup_epochs}",
        end="${max(max_epochs, warmup_epochs + 1)}",
        convert_to_iter_based=True,
    ),
]
