_base_ = [
    "../_base_/models/yolox.py",
    "../_base_/datasets/labelme_detection.py",
    "../_base_/schedules/yolox.py",
    "../_base_/yolox_runtime.py",
]
model_size = "s"
