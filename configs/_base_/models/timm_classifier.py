# Any model of timm (timm.list_models()) as a classifier.

# ---- often changed ----
model_name = "resnet18"
pretrained = False  # False; True: timm's weights by name; or a path to a checkpoint
loss = dict(type="CrossEntropyLoss")  # class_weight=[...] for one weight per class
# loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1)
# loss = dict(type='aicore.SoftmaxFocalLoss', gamma=2.0)
batch_augments = []  # e.g. [dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]

# ---- the rest ----
pixel_mean = [123.675, 116.28, 103.53]  # RGB, 0..255; what the pretrained weights expect
pixel_std = [58.395, 57.12, 57.375]
model = dict(
    type="aicore.TimmClassifier",
    model_name="${model_name}",
    num_classes="${num_classes}",
    pretrained="${pretrained}",
    in_channels="${in_channels}",
    loss="${loss}",
    train_cfg=dict(augments="${batch_augments}"),
    data_preprocessor=dict(
        num_classes="${num_classes}",
        mean="${pixel_mean if in_channels == 3 else [sum(pixel_mean) / 3]}",
        std="${pixel_std if in_channels == 3 else [sum(pixel_std) / 3]}",
        to_rgb=True,
    ),
)
