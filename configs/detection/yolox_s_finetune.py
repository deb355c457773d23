_base_ = [
    "../_base_/models/yolox.py",
    "../_base_/datasets/detection.py",
    "../_base_/schedules/yolox_finetune.py",
    "../_base_/yolox_runtime.py",
]
model_size = "s"
ema_momentum = 0.001  # a short training
