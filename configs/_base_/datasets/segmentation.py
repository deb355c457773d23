# Images with a mask file each: folders or list files, class ids, colours or soft edges.

# ---- often changed ----
data_root = "data/segmentation"
images = "images"  # folder of all images, below data_root; "" for data_root itself
masks = "masks/{path}.png"  # where an image's mask lies: {path} without suffix, {folder}, {name}
train = "train"  # below images: a folder; or below data_root: a list file (train.txt)
val = "val"
classes = None  # None: the lines of labels.txt in data_root; the first one is the background
mask_format = {}  # {}: class ids, 255 is ignored; palette=[(r, g, b), ...]; threshold=127; ...
image_size = 224  # pixels for the model: one number, or (height, width)
tile_size = None  # pixels, likewise: train on crops and test by tiles, in place of image_size
in_channels = 3  # 1: grey
batch_size = 8  # images a step and process
num_workers = 2  # processes that read images
balance = 0.5  # 0: draw all images alike; 1: draw every class in equal shares
white_level = 65535  # of 16-bit images; 4095 for a camera of 12 bits

# ---- the rest ----
tile_overlap = 0.25  # share of a tile that it has in common with the next one
min_region_area = 10  # pixels below which a region is neither found, nor missed, nor false
min_region_overlap = 0.1  # share of a region that has to agree for it to be found, or not false
default_scope = "mmseg"
task = dict(
    type="aicore.Segmentation",
    min_region_area="${min_region_area}",
    min_region_overlap="${min_region_overlap}",
)
monitor = "mIoU"  # what the best checkpoint is chosen by
load_image = dict(
    type="aicore.LoadImage", in_channels="${in_channels}", white_level="${white_level}"
)
load_mask = dict(type="aicore.LoadMask")
resize = dict(
    type="aicore.Albu",
    transforms=[
        dict(
            type="Resize",
            height="${pair(image_size)[0]}",
            width="${pair(image_size)[1]}",
            area_for_downscale="image",  # a thin scratch is not skipped, where both sides shrink
            mask_interpolation=6,  # nearest, by the pixels' centres
        )
    ],
)
crop = dict(
    type="aicore.RandomClassCrop",
    size="${pair(tile_size or image_size)}",
    class_share=0.75,  # of the crops around a pixel of a drawn class
)
augment = dict(
    type="aicore.Albu",
    transforms=[
        dict(type="HorizontalFlip", p=0.5),
        dict(type="VerticalFlip", p=0.5),
        dict(type="RandomBrightnessContrast", p=0.5),
        dict(
            type="Affine",
            scale=(0.9, 1.1),
            translate_percent=(-0.05, 0.05),
            rotate=(-10, 10),
            border_mode=4,  # reflect: no black corners
            p=0.5,
        ),
    ],
)
pack = dict(type="PackSegInputs")
train_pipeline = [
    "${load_image}",
    "${load_mask}",
    "${crop if tile_size else resize}",
    "${augment}",
    "${pack}",
]
# The mask is read last: predictions are compared in the original size.
test_pipeline = "${[load_image] + ([] if tile_size else [resize]) + [load_mask, pack]}"
train_dataloader = dict(
    batch_size="${batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="aicore.ClassBalancedSampler", balance="${balance}"),
    dataset=dict(
        type="aicore.SegmentationDataset",
        data_root="${data_root}",
        images="${images}",
        masks="${masks}",
        mask_format="${mask_format}",
        split="${train}",
        metainfo=dict(classes="${classes}"),
        pipeline="${train_pipeline}",
    ),
)
val_dataloader = dict(
    batch_size="${1 if tile_size else batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="aicore.SegmentationDataset",
        data_root="${data_root}",
        images="${images}",
        masks="${masks}",
        mask_format="${mask_format}",
        split="${val}",
        metainfo=dict(classes="${classes}"),
        pipeline="${test_pipeline}",
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="aicore.Evaluator",
    metrics=[
        dict(
            type="aicore.SegmentationMetric",
            min_region_area="${min_region_area}",
            min_region_overlap="${min_region_overlap}",
        )
    ],
)
test_evaluator = val_evaluator
tta_model = dict(type="aicore.SegmentationTTA")
tta_flips = dict(
    type="TestTimeAug",
    transforms=[
        [
            dict(type="RandomFlip", prob=0.0),
            dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            dict(type="RandomFlip", prob=1.0, direction="vertical"),
        ],
        ["${load_mask}"],
        ["${pack}"],
    ],
)
tta_pipeline = "${[load_image] + ([] if tile_size else [resize]) + [tta_flips]}"
