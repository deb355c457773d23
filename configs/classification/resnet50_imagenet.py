# Weights trained on ImageNet's thousand classes, tested as published: resize 256, crop 224.
_base_ = "./resnet50.py"
data_root = "data/imagenet"
val = "val"  # a thousand class folders; or a list file with labels.txt of a thousand lines
train = "${val}"  # nothing is trained; the classes are read here
topk = (1, 5)
test_pipeline = [
    "${load_image}",
    dict(type="ResizeEdge", scale=256, edge="short"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]
