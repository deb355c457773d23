# As default_runtime.py, with what a YOLOX training does besides: EMA, mosaic switch, multi-scale.

_base_ = "./default_runtime.py"

# ---- often changed ----
ema = True
ema_momentum = 0.0002  # share of the newest weights in the average; short trainings: 0.001
multi_scale = None  # (smallest, largest) side in pixels of training batches; YOLOX: (416, 640)

# ---- the rest ----
multi_scale_hook = dict(
    type="aicore.MultiScaleHook",
    size_range="${multi_scale}",
    divisor=16,  # 15 sizes from 416 to 640
    interval=10,  # iterations
)
ema_hook = dict(momentum="${ema_momentum}")
default_hooks = dict(
    mosaic_switch=dict(
        type="aicore.MosaicSwitchHook",
        last_epochs="${last_epochs}",  # without mosaic and mixup, and with the L1 loss
    ),
    multi_scale="${multi_scale_hook if multi_scale else None}",
)
