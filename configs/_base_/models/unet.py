# UNet on any encoder of timm (timm.list_models()).

# ---- often changed ----
model_name = "resnet18"  # the encoder
pretrained = False  # of the encoder: False; True: timm's weights by name; or a path
losses = [
    dict(type="CrossEntropyLoss", avg_non_ignore=True),  # class_weight=[...]: one per class
    dict(type="aicore.DiceLoss", loss_weight=1.0),
]
# losses = [dict(type="aicore.SoftmaxFocalLoss", gamma=2.0)]
# further: TverskyLoss (mmseg's), aicore.LovaszLoss, aicore.BoundaryLoss
deep_supervision = 0.0  # weight of the losses at intermediate resolutions; 0: none

# ---- the rest ----
pixel_mean = [123.675, 116.28, 103.53]  # RGB, 0..255; what the pretrained weights expect
pixel_std = [58.395, 57.12, 57.375]
tile_stride = "${max(int((tile_size or image_size) * (1 - tile_overlap)), 1)}"
whole = dict(mode="whole")
tiles = dict(
    mode="slide",
    crop_size=("${tile_size or image_size}", "${tile_size or image_size}"),
    stride=("${tile_stride}", "${tile_stride}"),
)
model = dict(
    type="aicore.EncoderDecoder",
    data_preprocessor=dict(
        type="aicore.SegmentationPreprocessor",
        mean="${pixel_mean if in_channels == 3 else [sum(pixel_mean) / 3]}",
        std="${pixel_std if in_channels == 3 else [sum(pixel_std) / 3]}",
        bgr_to_rgb="${in_channels == 3}",
        size_divisor=1,
    ),
    backbone=dict(
        type="aicore.TimmBackbone",
        model_name="${model_name}",
        pretrained="${pretrained}",
        in_channels="${in_channels}",
        out_indices=None,  # all levels
    ),
    decode_head=dict(
        type="aicore.UNetHead",
        num_classes="${num_classes}",
        decoder_channels=(256, 128, 64, 32, 16),
        deep_supervision="${deep_supervision}",
        loss_decode="${losses}",
    ),
    test_cfg="${tiles if tile_size else whole}",
)
