# Images with boxes in COCO files, one for each split.

# ---- often changed ----
data_root = "data/detection"
images = "images/{split}"  # folder of a split's images, below data_root; COCO's own: "{split}"
annotations = "annotations/{split}.json"  # COCO's own: "annotations/instances_{split}.json"
train = "train"  # what {split} stands for
val = "val"
classes = None  # None: the categories of the file, in the order of their ids
faults = "stop"  # at boxes that cannot be used; "drop": leave them out, with a warning
image_size = 640  # pixels for the model: one number, or (height, width); multiples of 32
tile_size = None  # pixels, likewise: train on crops and test by tiles, in place of image_size
in_channels = 3  # 1: grey
batch_size = 8  # images a step and process
num_workers = 2  # processes that read images
balance = 0.0  # 0: draw all images alike; 1: draw every class in equal shares
white_level = 65535  # of 16-bit images; 4095 for a camera of 12 bits
flips = ["horizontal"]  # what a part may look like too; "vertical", "diagonal" (both); []: none
mosaic = 1.0  # share of the training images that are made of four
mosaic_rotate = 10  # degrees at most; the boxes around turned boxes are larger than the objects
mosaic_shear = 2  # degrees at most, likewise
mosaic_cache = 0  # images a worker keeps for mosaics; 40: faster, but resumes are not bit-equal

# ---- the rest ----
tile_overlap = 0.25  # share of a tile that it has in common with the next; above an object's size
annotation_format = "coco"  # or voc, yolo, labelme
default_scope = "mmdet"
task = dict(type="aicore.Detection")
monitor = "AP"  # what the best checkpoint is chosen by
load_image = dict(
    type="aicore.LoadImage", in_channels="${in_channels}", white_level="${white_level}"
)
load_boxes = dict(type="aicore.LoadBoxes")
size = "${pair(tile_size or image_size)}"
crop = dict(type="aicore.RandomBoxCrop", size="${size}")  # a tile of a large image
load = "${[load_image, load_boxes] + ([crop] if tile_size else [])}"
mix = [
    dict(type="aicore.LoadOthers", load="${load}", cache_size="${mosaic_cache}"),
    dict(
        type="aicore.Mosaic",
        size="${size}",
        probability="${mosaic}",
        scale="${mosaic_scale}",
        rotate="${mosaic_rotate}",
        translate=0.1,  # share of the size
        shear="${mosaic_shear}",
    ),
    dict(type="aicore.MixUp", size="${size}", probability="${mixup}"),
]
augment = [
    dict(type="aicore.RandomHSV", hue=5, saturation=30, value=30),  # half degrees, of 255, of 255
    dict(type="aicore.RandomFlip", directions="${flips}"),
]
letterbox = dict(type="aicore.Letterbox", size="${size}")
pack = dict(
    type="PackDetInputs",
    meta_keys=(
        "img_id",
        "img_path",
        "ori_shape",
        "img_shape",
        "scale_factor",
        "flip",
        "flip_direction",
    ),
)
train_pipeline = "${load + mix + augment + [letterbox, pack]}"
# The boxes are read last: predictions are compared in the original size.
test_pipeline = "${[load_image] + ([] if tile_size else [letterbox]) + [load_boxes, pack]}"
train_dataloader = dict(
    batch_size="${batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="aicore.ClassBalancedSampler", balance="${balance}"),
    dataset=dict(
        type="aicore.DetectionDataset",
        data_root="${data_root}",
        images="${images}",
        annotations="${annotations}",
        annotation_format="${annotation_format}",
        input_size="${None if tile_size else size}",
        faults="${faults}",
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
        type="aicore.DetectionDataset",
        data_root="${data_root}",
        images="${images}",
        annotations="${annotations}",
        annotation_format="${annotation_format}",
        input_size="${None if tile_size else size}",
        faults="${faults}",
        split="${val}",
        metainfo=dict(classes="${classes}"),
        pipeline="${test_pipeline}",
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="aicore.Evaluator", metrics=[dict(type="aicore.DetectionMetric")])
test_evaluator = val_evaluator
tta_model = dict(type="aicore.DetectionTTA")
as_it_is = dict(type="RandomFlip", prob=0.0)
flipped = "${[{'type': 'RandomFlip', 'prob': 1.0, 'direction': way} for way in flips]}"
views = "${[as_it_is] + flipped}"
tta_views = dict(
    type="TestTimeAug",
    transforms="${[views] + ([] if tile_size else [[letterbox]]) + [[load_boxes], [pack]]}",
)
tta_pipeline = ["${load_image}", "${tta_views}"]
