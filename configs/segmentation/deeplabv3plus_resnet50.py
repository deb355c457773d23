_base_ = [
    "../_base_/models/deeplabv3plus.py",
    "../_base_/datasets/segmentation.py",
    "../_base_/schedules/cosine_encoder.py",
    "../_base_/default_runtime.py",
]
model_name = "resnet50"
