# labelme's layout: a JSON file beside each image.

_base_ = "./detection.py"

# ---- often changed ----
data_root = "data/labelme"
images = ""
annotations = "{path}.json"  # {path}: an image's path in data_root, without its suffix
train = "train"  # below data_root: a folder, or a list file (train.txt)
val = "val"
classes = None  # None: the lines of labels.txt, else the names that occur in train, sorted

# ---- the rest ----
annotation_format = "labelme"
