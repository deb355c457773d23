# What tools/quickstart.py trains: a small encoder on small images, in a minute and a half.

_base_ = "./unet_resnet18_sample.py"

# ---- often changed ----
model_name = "resnet10t"  # half the work of resnet18
sample_data = "data/quickstart"
sample_settings = dict(images=300, scratch_width=3.0)
image_size = 96
max_epochs = 18
num_workers = 1

# ---- the rest ----
train_cfg = dict(val_interval=9)
