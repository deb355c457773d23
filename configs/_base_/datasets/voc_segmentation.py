# Pascal VOC's layout: JPEGImages, SegmentationClass, lists in ImageSets/Segmentation.

_base_ = "./segmentation.py"

# ---- often changed ----
data_root = "data/VOCdevkit/VOC2012"
images = "JPEGImages"
masks = "SegmentationClass/{path}.png"  # the index into the file's own palette is the class
train = "ImageSets/Segmentation/train.txt"
val = "ImageSets/Segmentation/val.txt"
classes = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
image_size = 512
batch_size = 16
balance = 0.0
