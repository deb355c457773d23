_base_ = [
    "../_base_/models/yolox.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/yolox.py",
    "../_base_/yolox_runtime.py",
]
model_size = "s"
multi_scale = (416, 640)
