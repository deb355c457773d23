# YOLOX's shape: quadratic warm-up, cosine, and a constant minimum for the last epochs.
# Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021.

_base_ = "./multistep.py"

# ---- often changed ----
max_epochs = 300
learning_rate = 0.01  # for base_batch_size images a step; other numbers scale it
weight_decay = 5e-4
warmup_epochs = "${min(5, max(1, max_epochs // 10))}"
last_epochs = "${min(15, max_epochs * 3 // 20)}"  # without mosaic and mixup
constant_epochs = "${last_epochs}"  # at the end, with the smallest learning rate

# ---- the rest ----
base_batch_size = 64
auto_scale_lr = dict(enable=True)
optim_wrapper = dict(
    constructor="aicore.OptimizerConstructor",
    paramwise_cfg=dict(bias=dict(decay_mult=0), norm=dict(decay_mult=0)),  # only kernels decay
    optimizer=dict(nesterov=True),
)
param_scheduler = [
    dict(
        type="mmdet.QuadraticWarmupLR",
        begin=0,
        end="${max(warmup_epochs, 1)}",
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",  # at its end the learning rate stays at the minimum
        eta_min_ratio=0.05,
        begin="${warmup_epochs}",
        end="${max(max_epochs - constant_epochs, warmup_epochs + 1)}",
        convert_to_iter_based=True,
    ),
]
