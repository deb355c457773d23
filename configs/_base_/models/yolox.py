# YOLOX: Ge et al., YOLOX: Exceeding YOLO Series in 2021.

# ---- often changed ----
model_size = "nano"  # nano, tiny, s, m, l or x
mosaic_scale = "${(0.5, 1.5) if model_size in ('nano', 'tiny') else (0.1, 2.0)}"  # zoom
mixup = "${0.0 if model_size in ('nano', 'tiny') else 1.0}"  # share of blended training images
score_threshold = 0.01  # of the objects that a test counts; a demo shows fewer
iou_threshold = 0.65  # overlap from which two boxes of a class are one object
max_per_img = 300  # objects in an image

# ---- the rest ----
factors = dict(  # of depth and width
    nano=(0.33, 0.25),  # with depthwise convolutions
    tiny=(0.33, 0.375),
    s=(0.33, 0.5),
    m=(0.67, 0.75),
    l=(1.0, 1.0),
    x=(1.33, 1.25),
)
deepen_factor = "${factors[model_size][0]}"
widen_factor = "${factors[model_size][1]}"
use_depthwise = "${model_size == 'nano'}"
channels = "${[int(count * widen_factor) for count in [256, 512, 1024]]}"  # strides 8, 16, 32
act_cfg = dict(type="SiLU", inplace=False)  # mmdet's Swish in a single step
model = dict(
    type="aicore.YOLOX",
    data_preprocessor=dict(
        # Pixels are 0..255, blue first; the model pads to its largest stride.
        type="aicore.DetectionPreprocessor",
        pad_value=114,  # where training images differ in size
    ),
    backbone=dict(
        type="aicore.CSPDarknet",
        in_channels="${in_channels}",
        deepen_factor="${deepen_factor}",
        widen_factor="${widen_factor}",
        use_depthwise="${use_depthwise}",
        act_cfg="${act_cfg}",
    ),
    neck=dict(
        type="YOLOXPAFPN",
        in_channels="${channels}",
        out_channels="${channels[0]}",
        num_csp_blocks="${round(3 * deepen_factor)}",
        use_depthwise="${use_depthwise}",
        act_cfg="${act_cfg}",
    ),
    bbox_head=dict(
        type="aicore.YOLOXHead",
        num_classes="${num_classes}",
        in_channels="${channels[0]}",
        feat_channels="${channels[0]}",
        use_depthwise="${use_depthwise}",
        act_cfg="${act_cfg}",
    ),
    test_cfg=dict(
        mode="${'tiles' if tile_size else 'whole'}",
        size="${tile_size and pair(tile_size)}",
        stride="${tile_size and [round(side * (1 - tile_overlap)) for side in pair(tile_size)]}",
        score_threshold="${score_threshold}",
        iou_threshold="${iou_threshold}",
        max_per_img="${max_per_img}",
    ),
)
