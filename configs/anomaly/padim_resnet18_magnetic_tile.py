_base_ = [
    "../_base_/models/padim.py",
    "../_base_/datasets/magnetic_tile_anomaly.py",
    "../_base_/schedules/fit.py",
    "../_base_/anomaly_runtime.py",
]
