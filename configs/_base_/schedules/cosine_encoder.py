# As cosine.py, with a smaller learning rate for a pretrained encoder (model.backbone).

_base_ = "./cosine.py"

# ---- often changed ----
# For base_batch_size images a step. On the sample data a ResNet-18 from random weights learnt no
# shapes at 1e-3 within 12 epochs.
learning_rate = "${1e-3 if pretrained else 3e-4}"
encoder_lr = "${0.1 if pretrained else 1.0}"  # factor on the learning rate of model.backbone

# ---- the rest ----
base_batch_size = 8  # what --auto-scale-lr scales from
optim_wrapper = dict(
    constructor="aicore.OptimizerConstructor",
    paramwise_cfg=dict(modules=dict(backbone=dict(lr_mult="${encoder_lr}"))),
)
