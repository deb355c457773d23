# NEU-DET (He et al., 2020): hot-rolled steel, 1800 grey images of 200 x 200 pixels, 6 defects.
# Lists: python tools/data/split.py data/neu_det/images --label-from '([A-Za-z_-]+)_\d+\.' \
#            --paths-only --out data/neu_lists

_base_ = "./voc_detection.py"

# ---- often changed ----
data_root = "data/neu_det"
images = "images"
annotations = "annotations/{path}.xml"
train = "../neu_lists/train.txt"
val = "../neu_lists/val.txt"
classes = (
    "crazing",
    "inclusion",
    "patches",
    "pitted_surface",
    "rolled-in_scale",
    "scratches",
)
image_size = 256
flips = ["horizontal", "vertical", "diagonal"]
mosaic = 0.5  # small images: whole ones are as much worth
mosaic_rotate = 0  # boxes stay as tight as they were drawn
mosaic_shear = 0
