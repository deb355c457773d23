# What tools/quickstart.py fits: PaDiM on the features of a ResNet-18 with random weights.

_base_ = "./padim_resnet18_sample.py"

# ---- often changed ----
sample_data = "data/quickstart"
sample_settings = dict(images=300, scratch_width=3.0)
num_workers = 1
