# The embedded sample data: drawn on first use, see tools/data/make_sample.py.

_base_ = "./classification.py"

# ---- often changed ----
sample_data = "data/sample"
sample_settings = {}  # e.g. dict(images=300, scratch_width=3.0), see tools/data/make_sample.py
data_root = "${sample_data}/classification"
classes = ("good", "scratch", "spot", "dent")
image_size = 128
batch_size = 16  # of 320 images: twice the steps of 32
