# As default_runtime.py, for a fit in one pass, with a threshold found on validation images.

_base_ = "./default_runtime.py"

# ---- often changed ----
log_interval = 1
threshold = dict(
    type="aicore.QuantileThreshold",  # of good validation images
    false_alarm_rate=0.01,  # expected share of good images above it
)
# threshold = dict(type="aicore.BestF1Threshold")  # needs a val with defects, and no other test
# threshold = dict(type="aicore.FixedThreshold", value=12.0)  # a distance
interval_iters = 10  # iterations between two checkpoints of a fit

# ---- the rest ----
default_hooks = dict(
    param_scheduler=None,
    checkpoint=dict(interval_iters="${interval_iters}", max_keep_ckpts=1, save_best=None),
    invalid_loss=None,
)
custom_hooks = [dict(type="aicore.ThresholdHook", rule="${threshold}")]
