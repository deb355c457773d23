# Images with one class each: class folders, or list files.

# ---- often changed ----
data_root = "data/classification"
train = "train"  # below data_root: a folder of class folders, or a list file (train.txt)
val = "val"
classes = None  # None: the folder names, or the lines of labels.txt
image_size = 224  # pixels for the model: one number, or (height, width)
in_channels = 3  # 1: grey
batch_size = 32  # images a step and process
num_workers = 2  # processes that read images
white_level = 65535  # of 16-bit images; 4095 for a camera of 12 bits

# ---- the rest ----
default_scope = "mmpretrain"
task = dict(type="aicore.Classification")
monitor = "accuracy/top1"  # what the best checkpoint is chosen by
topk = (1,)
load_image = dict(
    type="aicore.LoadImage", in_channels="${in_channels}", white_level="${white_level}"
)
resize = dict(type="Resize", scale="${(pair(image_size)[1], pair(image_size)[0])}")
train_pipeline = [
    "${load_image}",
    "${resize}",
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="RandomFlip", prob=0.5, direction="vertical"),
    dict(
        type="aicore.Albu",
        transforms=[
            dict(type="RandomBrightnessContrast", brightness_limit=0.1, p=0.5),
            dict(
                type="Affine",
                scale=(0.9, 1.1),
                translate_percent=(-0.05, 0.05),
                rotate=(-10, 10),
                border_mode=4,  # reflect: no black corners
                p=0.5,
            ),
        ],
    ),
    dict(type="PackInputs"),
]
test_pipeline = ["${load_image}", "${resize}", dict(type="PackInputs")]
train_dataloader = dict(
    batch_size="${batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="aicore.ClassificationDataset",
        data_root="${data_root}",
        split="${train}",
        metainfo=dict(classes="${classes}"),
        pipeline="${train_pipeline}",
    ),
)
val_dataloader = dict(
    batch_size="${batch_size}",
    num_workers="${num_workers}",
    persistent_workers="${num_workers > 0}",
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="aicore.ClassificationDataset",
        data_root="${data_root}",
        split="${val}",
        metainfo=dict(classes="${classes}"),
        pipeline="${test_pipeline}",
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="aicore.Evaluator",
    metrics=[dict(type="Accuracy", topk="${topk}"), dict(type="SingleLabelMetric")],
)
test_evaluator = val_evaluator
tta_model = dict(type="AverageClsScoreTTA")
tta_pipeline = [
    "${load_image}",
    "${resize}",
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="RandomFlip", prob=0.0),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="vertical"),
            ],
            [dict(type="PackInputs")],
        ],
    ),
]
