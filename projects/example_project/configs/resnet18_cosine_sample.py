_base_ = "../../../configs/classification/resnet18_sample.py"
custom_imports = dict(imports=["projects.example_project"])
freeze_epochs = 1  # epochs in which only the head learns
model = dict(
    _delete_=True,
    type="ImageClassifier",
    backbone=dict(
        type="aicore.TimmBackbone",
        model_name="${model_name}",
        pretrained="${pretrained}",
        in_channels="${in_channels}",
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="aicore.CosineHead", num_classes="${num_classes}", in_channels=512),
    data_preprocessor=_base_.model.data_preprocessor,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="aicore.FreezeBackboneHook", epochs="${freeze_epochs}"),
]
