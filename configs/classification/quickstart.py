# What tools/quickstart.py trains: a small network on small images, in less than a minute.

_base_ = "./resnet18_sample.py"

# ---- often changed ----
model_name = "resnet10t"  # half the work of resnet18
sample_data = "data/quickstart"
sample_settings = dict(images=300, scratch_width=3.0)
image_size = 96
max_epochs = 16
num_workers = 1

# ---- the rest ----
train_cfg = dict(val_interval=4)
