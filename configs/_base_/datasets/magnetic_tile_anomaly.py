# Magnetic tiles (Huang et al., 2018): soft masks beside the images, the type in the folder's name.
# Of the good ones a fifth is kept for the test, which shows all defects.

_base_ = "./anomaly.py"

# ---- often changed ----
data_root = "data/magnetic_tile"
train = "MT_Free"
test = ["MT_Free", "MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven"]
good = ("Free",)
type_from = "^MT_([^/]+)/"
masks = "{path}.png"
mask_threshold = 127
test_share = 0.2
