_base_ = [
    "../_base_/models/padim.py",
    "../_base_/datasets/anomaly_sample.py",
    "../_base_/schedules/fit.py",
    "../_base_/anomaly_runtime.py",
]
