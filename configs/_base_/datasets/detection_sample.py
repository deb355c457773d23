# The embedded sample data: drawn on first use, see tools/data/make_sample.py.

_base_ = "./detection.py"

# ---- often changed ----
sample_data = "data/sample"
sample_settings = {}  # e.g. dict(images=300, scratch_width=3.0), see tools/data/make_sample.py
data_root = "${sample_data}/detection"
classes = ("scratch", "spot", "dent")
image_size = 128
