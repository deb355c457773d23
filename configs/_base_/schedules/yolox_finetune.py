# As yolox.py, for few images from given weights: a good part of it without mosaic.

_base_ = "./yolox.py"

# ---- often changed ----
max_epochs = 45
learning_rate = 0.02
warmup_epochs = 1
last_epochs = 18
constant_epochs = 3
