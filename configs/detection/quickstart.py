# What tools/quickstart.py trains: YOLOX-nano from random weights, in about a minute and a half.

_base_ = [
    "../_base_/models/yolox.py",
    "../_base_/datasets/detection_sample.py",
    "../_base_/schedules/yolox_finetune.py",  # AdamW: in so few steps SGD finds nothing
    "../_base_/yolox_runtime.py",
]

# ---- often changed ----
model_size = "nano"
use_depthwise = False  # plain convolutions: more work, but less time on a CPU
sample_data = "data/quickstart"
sample_settings = dict(images=300, scratch_width=3.0)
max_epochs = 18
learning_rate = 0.016  # for 64 images a step, of which there are 8
ema_momentum = 0.01
balance = 1.0  # two of five images have no defect
mosaic = 0.0  # mixed images take longer to learn from
flips = ["horizontal", "vertical", "diagonal"]
num_workers = 1

# ---- the rest ----
train_cfg = dict(val_interval=6)
