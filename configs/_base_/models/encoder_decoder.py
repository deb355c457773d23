# What all segmentation models share: an encoder of timm (timm.list_models()), losses, tiles.

# ---- often changed ----
model_name = "resnet18"  # the encoder
pretrained = False  # of the encoder: False; True: timm's weights by name; or a path
losses = [  # added up; class_weight=[...] gives one weight per class
    dict(type="aicore.CrossEntropyLoss"),
    dict(type="aicore.DiceLoss", log=True),
]
# further: aicore.SoftmaxFocalLoss, .TverskyLoss, .LovaszLoss, .BoundaryLoss

# ---- the rest ----
pixel_mean = [123.675, 116.28, 103.53]  # RGB, 0..255; what the pretrained weights expect
pixel_std = [58.395, 57.12, 57.375]
whole = dict(mode="whole")
tiles = dict(
    mode="slide",
    crop_size="${pair(tile_size or image_size)}",
    stride="${[round(side * (1 - tile_overlap)) for side in pair(tile_size or image_size)]}",
)
model = dict(
    type="aicore.EncoderDecoder",
    data_preprocessor=dict(
        type="aicore.SegmentationPreprocessor",
        mean="${pixel_mean if in_channels == 3 else [sum(pixel_mean) / 3]}",
        std="${pixel_std if in_channels == 3 else [sum(pixel_std) / 3]}",
        bgr_to_rgb="${in_channels == 3}",
        size_divisor=1,  # the model pads, and cuts back
    ),
    backbone=dict(
        type="aicore.TimmBackbone",
        model_name="${model_name}",
        pretrained="${pretrained}",
        in_channels="${in_channels}",
        out_indices=None,  # all feature levels
    ),
    test_cfg="${tiles if tile_size else whole}",
)
