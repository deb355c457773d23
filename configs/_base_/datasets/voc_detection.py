# Pascal VOC's layout: JPEGImages, an XML file for each image in Annotations, lists in ImageSets.

_base_ = "./detection.py"

# ---- often changed ----
data_root = "data/VOCdevkit/VOC2012"
images = "JPEGImages"
annotations = "Annotations/{path}.xml"  # {path}: an image's path in images, without its suffix
train = "ImageSets/Main/train.txt"  # below data_root: a list file; or below images: a folder
val = "ImageSets/Main/val.txt"
classes = None  # None: the lines of labels.txt, else the names that occur in train, sorted

# ---- the rest ----
annotation_format = "voc"
