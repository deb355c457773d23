# DeepLabV3: Chen et al., 2017. The head is mmseg's.

_base_ = "./pspnet.py"

# ---- the rest ----
model = dict(
    decode_head=dict(
        _delete_=True,
        type="ASPPHead",
        in_index=-1,
        channels=512,
        dilations=(1, 12, 24, 36),
        dropout_ratio=0.1,
        num_classes="${num_classes}",
        out_channels="${num_classes}",
        norm_cfg="${norm_cfg}",
        loss_decode="${losses}",
    ),
)
