_base_ = [
    "../_base_/models/timm_classifier.py",
    "../_base_/datasets/classification.py",
    "../_base_/schedules/cosine.py",
    "../_base_/default_runtime.py",
]
model_name = "resnet18"
