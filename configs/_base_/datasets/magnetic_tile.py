# Magnetic tiles (Huang et al., 2018): soft masks beside the images, the class in the folder's name.
# Lists: python tools/data/split.py data/magnetic_tile --label-from '^MT_([^/]+)/' \
#            --include '*.jpg' --paths-only --out data/tile_lists

_base_ = "./segmentation.py"

# ---- often changed ----
data_root = "data/magnetic_tile"
images = ""
masks = "{path}.png"
train = "../tile_lists/train.txt"
val = "../tile_lists/val.txt"
classes = ("background", "Blowhole", "Break", "Crack", "Fray", "Uneven")
mask_format = dict(threshold=127, class_from="^MT_([^/]+)/")
image_size = 224
