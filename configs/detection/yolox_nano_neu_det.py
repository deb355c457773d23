_base_ = [
    "../_base_/models/yolox.py",
    "../_base_/datasets/neu_det.py",
    "../_base_/schedules/yolox_finetune.py",
    "../_base_/yolox_runtime.py",
]
model_size = "nano"
ema_momentum = 0.001  # a short training
