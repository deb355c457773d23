# The embedded sample data: drawn on first use, see tools/data/make_sample.py.

_base_ = "./anomaly.py"

# ---- often changed ----
sample_data = "data/sample"
data_root = "data/sample/anomaly"
train = "machined_part/train"
test = "machined_part/test"
masks = "machined_part/ground_truth/{type}/{name}_mask.png"
image_size = 128
