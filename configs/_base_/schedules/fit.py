# One pass over the good images, without gradients.

# ---- often changed ----
amp = False  # bfloat16 for the features, as --amp

# ---- the rest ----
max_epochs = 1
train_cfg = dict(type="aicore.FitLoop")
val_cfg = {}
test_cfg = {}
optim_wrapper = dict(constructor="aicore.FitConstructor", amp="${amp}")
