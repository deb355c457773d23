# BTAD (Mishra et al., 2021): types ok and ko; its masks end in .png or .bmp, and both are found.
# Each product (01, 02, 03) is a data set of its own: set data_root to its folder.

_base_ = "./anomaly.py"

# ---- often changed ----
data_root = "data/btad/01"
masks = "ground_truth/{type}/{name}.png"
