# Warm-up, then the learning rate falls along a cosine.

# ---- often changed ----
max_epochs = 30
learning_rate = 1e-3  # for base_batch_size images a step
weight_decay = 0.05
warmup_epochs = 1  # the learning rate rises linearly
amp = False  # True, 'bfloat16' or 'float16': mixed precision, as tools/train.py --amp

# ---- the rest ----
base_batch_size = 32  # what --auto-scale-lr scales from
optim_wrapper = dict(
    type="aicore.OptimWrapper",
    amp="${amp}",
    accumulative_counts=1,  # iterations whose gradients are added up for one step
    clip_grad=None,  # e.g. dict(max_norm=10)
    optimizer=dict(
        type="AdamW",
        lr="${learning_rate}",
        weight_decay="${weight_decay}",
        fused=True,  # one kernel for the whole update
    ),
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor="${0.01 if warmup_epochs > 0 else 1.0}",
        begin=0,
        end="${max(warmup_epochs, 1)}",
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.01,
        begin="${warmup_epochs}",
        end="${max(max_epochs, warmup_epochs + 1)}",
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs="${max_epochs}", val_interval=1)
val_cfg = {}
test_cfg = {}
auto_scale_lr = dict(enable=False, base_batch_size="${base_batch_size}")
