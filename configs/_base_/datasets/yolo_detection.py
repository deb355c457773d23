# YOLO's layout: a text file with lines "class cx cy w h" in labels for each image in images.

_base_ = "./detection.py"

# ---- often changed ----
data_root = "data/yolo"
images = "images"
annotations = "labels/{path}.txt"  # {path}: an image's path in images, without its suffix
train = "train"  # below images: a folder; or below data_root: a list file (train.txt)
val = "val"
classes = None  # None: the names of data.yaml, or the lines of labels.txt or classes.txt

# ---- the rest ----
annotation_format = "yolo"
