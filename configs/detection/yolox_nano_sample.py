_base_ = [
    "../_base_/models/yolox.py",
    "../_base_/datasets/detection_sample.py",
    "../_base_/schedules/yolox_short.py",
    "../_base_/yolox_runtime.py",
]
model_size = "nano"
ema_momentum = 0.005
