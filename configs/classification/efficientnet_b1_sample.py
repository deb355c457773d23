_base_ = [
    "../_base_/models/timm_classifier.py",
    "../_base_/datasets/classification_sample.py",
    "../_base_/schedules/cosine.py",
    "../_base_/default_runtime.py",
]
model_name = "efficientnet_b1"
