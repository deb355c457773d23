# CamVid's layout as SegNet's authors share it: train, trainannot, val, valannot; void is 11.

_base_ = "./segmentation.py"

# ---- often changed ----
data_root = "data/camvid"
images = ""
masks = "{folder}annot/{name}.png"
classes = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
mask_format = dict(ignore=(11,))
image_size = 384
balance = 0.0
