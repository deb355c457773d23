# PSPNet: Zhao et al., 2017. The head is mmseg's.

_base_ = "./encoder_decoder.py"

# ---- often changed ----
output_stride = 8  # pixels of the image to one of the features; 16 is faster, and coarser
auxiliary_weight = 0.4  # of the losses at the level before the last

# ---- the rest ----
norm_cfg = dict(type="BN")
auxiliary_losses = [dict(type="aicore.CrossEntropyLoss", loss_weight="${auxiliary_weight}")]
model = dict(
    backbone=dict(output_stride="${output_stride}"),
    decode_head=dict(
        type="PSPHead",
        in_index=-1,
        channels=512,
        pool_scales=(1, 2, 3, 6),  # parts a side that the image is pooled to
        dropout_ratio=0.1,
        num_classes="${num_classes}",
        out_channels="${num_classes}",
        norm_cfg="${norm_cfg}",
        loss_decode="${losses}",
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_index=-2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes="${num_classes}",
        out_channels="${num_classes}",
        norm_cfg="${norm_cfg}",
        loss_decode="${auxiliary_losses}",
    ),
)
