# The embedded sample data: drawn on first use, see tools/data/make_sample.py.

_base_ = "./detection.py"

# ---- often changed ----
sample_data = "data/sample"
data_root = "data/sample/detection"
classes = ("scratch", "spot", "dent")
image_size = 128
