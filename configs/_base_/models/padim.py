# PaDiM on the feature maps of any timm model.

# ---- often changed ----
model_name = "resnet18"  # timm's name
pretrained = False  # set a path to timm's weights, or True: by name. Random ones see little
num_features = 100  # size of the embedding; memory and time grow with its square
reduction = "random"  # how it is made of all channels: also "semi_orthogonal"; None: all of them
reduction_seed = "${seed}"  # another choice moves AUROC by points: compare over several
half = False  # True: factors in float16, half the memory; the log says what it costs

# ---- the rest ----
out_indices = (1, 2, 3)  # timm's feature levels: strides 4, 8 and 16
sigma = 4.0  # pixels, of the map's smoothing
regularisation = 0.01  # added to the variances
pixel_mean = [123.675, 116.28, 103.53]  # RGB, 0..255; what the pretrained weights expect
pixel_std = [58.395, 57.12, 57.375]
model = dict(
    type="aicore.AnomalyDetector",
    backbone=dict(
        type="aicore.TimmBackbone",
        model_name="${model_name}",
        pretrained="${pretrained}",
        in_channels="${in_channels}",
        out_indices="${out_indices}",
    ),
    method=dict(
        type="aicore.PaDiM",
        image_size="${pair(tile_size or image_size)}",
        num_features="${num_features}",
        reduction="${reduction}",
        seed="${reduction_seed}",
        sigma="${sigma}",
        half="${half}",
    ),
    regularisation="${regularisation}",
    tile_overlap="${tile_overlap if tile_size else None}",
    data_preprocessor=dict(
        type="aicore.AnomalyPreprocessor",
        mean="${pixel_mean if in_channels == 3 else [sum(pixel_mean) / 3]}",
        std="${pixel_std if in_channels == 3 else [sum(pixel_std) / 3]}",
        bgr_to_rgb="${in_channels == 3}",
    ),
)
