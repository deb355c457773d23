# The embedded sample data: drawn on first use, see tools/data/make_sample.py.

_base_ = "./classification.py"

# ---- often changed ----
sample_data = "data/sample"
data_root = "data/sample/classification"
classes = ("good", "scratch", "spot", "dent")
image_size = 128
batch_size = 16  # of 320 images: twice the steps of 32
