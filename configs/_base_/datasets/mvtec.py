# MVTec AD (Bergmann et al., 2019), and other sets of its layout.
# Each category is a data set of its own: set data_root to its folder.

_base_ = "./anomaly.py"

# ---- often changed ----
data_root = "data/mvtec_ad/bottle"
