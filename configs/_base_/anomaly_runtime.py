# As default_runtime.py, for a fit in one pass, with a threshold found on validation images.

_base_ = "./default_runtime.py"

# ---- often changed ----
log_interval = 1
false_alarm_rate = 0.01  # share of good images expected above the threshold
threshold = None  # None: by that rate, on good validation images; "best_f1"; or a distance
channels_last = True  # the backbone is faster so, on most processors by a third
interval_iters = 10  # iterations between two checkpoints of a fit

# ---- the rest ----
default_hooks = dict(
    param_scheduler=None,
    checkpoint=dict(interval_iters="${interval_iters}", max_keep_ckpts=1, save_best=None),
    invalid_loss=None,
)
quantile = dict(type="aicore.QuantileThreshold", false_alarm_rate="${false_alarm_rate}")
best_f1 = dict(type="aicore.BestF1Threshold")  # needs a val with defects, apart from the test
fixed = dict(type="aicore.FixedThreshold", value="${threshold}")
threshold_rule = (
    "${quantile if threshold is None else best_f1 if threshold == 'best_f1' else fixed}"
)
custom_hooks = [dict(type="aicore.ThresholdHook", rule="${threshold_rule}")]
