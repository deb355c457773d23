# As yolox.py, for a few hundred images from random weights: few, bold steps.

_base_ = "./yolox.py"

# ---- often changed ----
max_epochs = 30
learning_rate = 0.08
warmup_epochs = 1
last_epochs = 10
