# Anomaly detection: good images to fit on; good and defective ones to test, in MVTec AD's layout.

# ---- often changed ----
data_root = "data/anomaly"
train = "train"  # good images, below data_root: a folder, a list file (train.txt), or several
val = None  # likewise, for the threshold; None: a share of train's images is held out for it
held_out = 0.1  # that share
test = "test"  # good and defective images, likewise: the first folder is an image's type
good = ("good", "ok", "normal")  # the types that are good; every other one is a defect
masks = "ground_truth/{type}/{name}_mask.png"  # of the defects: also {path}, {folder}; or None
roi = None  # picture of the pixels that count: one for all images, or a place as for masks
image_size = 256  # pixels for the model: one number, or (height, width)
tile_size = None  # pixels, likewise: whole images, tile by tile, in place of image_size
in_channels = 3  # 1: grey
batch_size = 32  # images a step and process
num_workers = 2  # processes that read images
white_level = 65535  # of 16-bit images; 4095 for a camera of 12 bits

# ---- the rest ----
type_from = None  # regular expression: its first group, found in an image's path, is its type
masks_required = True  # False: a defective image without a mask is left out of pixel figures
mask_threshold = None  # grey value above which a pixel is defective; None: 0, 127 for soft edges
test_share = 0.0  # of the good images of train, kept for a test that holds the same ones
split_seed = 0  # of what is held out, and kept for the test
tile_overlap = 0.25  # share of a tile that it has in common with the next one
default_scope = "aicore"
task = dict(type="aicore.AnomalyDetection")
classes = ("ok", "ng")
monitor = "image_AUROC"  # the figure that stands for a model
load_image = dict(
    type="aicore.LoadImage", in_channels="${in_channels}", white_level="${white_level}"
)
resize = dict(type="aicore.Stretch", size="${pair(image_size)}")
load_roi = dict(type="aicore.LoadROI", roi="${roi}", data_root="${data_root}")
load_mask = dict(type="aicore.LoadDefectMask")
pack = dict(type="aicore.PackAnomaly")
train_pipeline = "${[load_image] + ([] if tile_size else [resize]) + [load_roi, pack]}"
# ROI and mask are read last: distances are compared in the original size.
test_pipeline = "${[load_image] + ([] if tile_size else [resize]) + [load_roi, load_mask, pack]}"
train_dataloader = dict(
    batch_size="${1 if tile_size else batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="aicore.AnomalyDataset",
        data_root="${data_root}",
        split="${train}",
        part="fit",
        good="${good}",
        type_from="${type_from}",
        masks="${masks}",
        roi="${roi}",
        held_out="${0.0 if val else held_out}",
        test_share="${test_share}",
        seed="${split_seed}",
        pipeline="${train_pipeline}",
    ),
)
val_dataloader = dict(
    batch_size="${1 if tile_size else batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="aicore.AnomalyDataset",
        data_root="${data_root}",
        split="${val or train}",
        part="${'all' if val else 'held_out'}",
        good="${good}",
        type_from="${type_from}",
        masks="${masks}",
        masks_required="${masks_required}",
        mask_threshold="${mask_threshold}",
        roi="${roi}",
        held_out="${0.0 if val else held_out}",
        test_share="${test_share}",
        seed="${split_seed}",
        pipeline="${test_pipeline}",
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size="${1 if tile_size else batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="aicore.AnomalyDataset",
        data_root="${data_root}",
        split="${test}",
        part="${'test' if test_share else 'all'}",
        good="${good}",
        type_from="${type_from}",
        masks="${masks}",
        masks_required="${masks_required}",
        mask_threshold="${mask_threshold}",
        roi="${roi}",
        test_share="${test_share}",
        seed="${split_seed}",
        pipeline="${test_pipeline}",
        test_mode=True,
    ),
)
val_evaluator = dict(type="aicore.Evaluator", metrics=[dict(type="aicore.AnomalyMetric")])
test_evaluator = val_evaluator
