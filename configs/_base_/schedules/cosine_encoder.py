# As cosine.py, with a smaller learning rate for a pretrained encoder (model.backbone).

_base_ = "./cosine.py"

# ---- often changed ----
encoder_lr = "${0.1 if pretrained else 1.0}"  # factor on the learning rate of model.backbone

# ---- the rest ----
optim_wrapper = dict(
    constructor="aicore.OptimizerConstructor",
    paramwise_cfg=dict(modules=dict(backbone=dict(lr_mult="${encoder_lr}"))),
)
