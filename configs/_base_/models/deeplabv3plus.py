# DeepLabV3+: Chen et al., 2018. The head is mmseg's.

_base_ = "./pspnet.py"

# ---- the rest ----
model = dict(
    decode_head=dict(
        _delete_=True,
        type="aicore.DeepLabV3PlusHead",
        channels=512,
        c1_channels=48,  # of the features of stride 4 that sharpen the result
        dilations=(1, 12, 24, 36),
        dropout_ratio=0.1,
        num_classes="${num_classes}",
        out_channels="${num_classes}",
        norm_cfg="${norm_cfg}",
        loss_decode="${losses}",
    ),
)
