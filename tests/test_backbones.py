from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn

from aicore.backbones import TimmBackbone, timm_weights
from aicore.classification import TimmClassifier
from aicore.errors import CheckpointError, ConfigError

SMALL = "test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def published():
    """torchvision's resnet18 with drawn weights, as its checkpoints name them."""
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def file(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(published.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [TimmClassifier, TimmBackbone])
def test_init_cfg_is_followed(kind, published, file):
    init_cfg = {"type": "Pretrained", "checkpoint": file}
    arguments = {"num_classes": 1000} if kind is TimmClassifier else {}

    model = kind(model_name="resnet18", init_cfg=init_cfg, **arguments)
    model.init_weights()

    assert torch.equal(model.model.conv1.weight, published.conv1.weight)


@pytest.mark.parametrize("kind", [TimmClassifier, TimmBackbone])
@pytest.mark.parametrize(
    "init_cfg",
    [
        {"type": "Kaiming", "layer": "Conv2d"},
        {"type": "Pretrained", "checkpoint": "a.pth", "prefix": "backbone."},
        {},
    ],
)
def test_an_init_cfg_that_cannot_be_followed_is_refused(kind, init_cfg):
    with pytest.raises(ConfigError, match=r"init_cfg=.* cannot be followed: .*Set pretrained = "):
        kind(model_name=SMALL, init_cfg=init_cfg, num_classes=2)


def test_weights_that_are_not_finite_are_refused(published, tmp_path):
    weights = {key: weight.clone() for key, weight in published.state_dict().items()}
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")

    with pytest.raises(CheckpointError, match=r"NaN or infinity in 'layer1\.0\.conv1\.weight'"):
        TimmClassifier("resnet18", 3, pretrained=saved(tmp_path / "a.pth", weights))


def saved(path, weights: dict) -> str:
    torch.save(weights, path)
    return str(path)


def without_head(model: nn.Module) -> dict:
    return {key: w for key, w in model.state_dict().items() if not key.startswith("fc.")}


# ---- weights from a file ----


def test_torchvisions_weights_give_torchvisions_scores(published, file, images):
    model = TimmClassifier("resnet18", num_classes=1000, pretrained=file).eval()

    with torch.no_grad():
        assert torch.allclose(model(images), published(images), atol=1e-5)


@pytest.mark.parametrize("head", [True, False])
def test_another_number_of_classes_leaves_the_head_out(published, file, tmp_path, head):
    path = file if head else saved(tmp_path / "body.pth", without_head(published))

    model = TimmClassifier("resnet18", num_classes=3, pretrained=path)

    own = model.state_dict()
    assert own["fc.weight"].shape == (3, 512)
    assert all(torch.equal(own[key], weight) for key, weight in without_head(published).items())


@pytest.mark.parametrize("prefix", ["model.", "backbone.model."])
def test_a_checkpoint_that_aicore_trained(published, tmp_path, images, prefix):
    weights = {f"{prefix}{key}": weight for key, weight in published.state_dict().items()}
    path = saved(tmp_path / "trained.pth", {"state_dict": weights, "meta": {}})

    backbone = TimmBackbone("resnet18", path, out_indices=(1,)).eval()

    stem = nn.Sequential(published.conv1, published.bn1, published.relu, published.maxpool)
    with torch.no_grad():
        expected = published.layer1(stem(images))
        assert torch.allclose(backbone(images)[0], expected, atol=1e-5)


def test_a_file_without_a_head_for_as_many_classes(published, tmp_path):
    path = saved(tmp_path / "body.pth", without_head(published))

    model = TimmClassifier("resnet18", num_classes=1000, pretrained=path)

    own = model.state_dict()
    assert torch.equal(own["conv1.weight"], published.conv1.weight)
    assert not torch.equal(own["fc.weight"], published.fc.weight)


def test_one_channel_sums_the_three(published, file, images):
    model = TimmClassifier("resnet18", num_classes=1000, pretrained=file, in_channels=1).eval()

    weight = model.state_dict()["conv1.weight"]
    assert torch.allclose(weight, published.conv1.weight.sum(dim=1, keepdim=True), atol=1e-6)
    grey = images[:, :1]
    with torch.no_grad():
        assert torch.allclose(model(grey), published(grey.expand(-1, 3, -1, -1)), atol=1e-4)


def test_weights_in_half_precision(published, tmp_path):
    half = {key: weight.half() for key, weight in published.state_dict().items()}

    model = TimmClassifier("resnet18", 1000, pretrained=saved(tmp_path / "half.pth", half))

    assert model.state_dict()["fc.weight"].dtype == torch.float32
    assert torch.allclose(model.state_dict()["fc.weight"], published.fc.weight, atol=1e-3)


def test_the_count_of_batches_may_be_missing(published, tmp_path):
    old = {
        key: weight
        for key, weight in published.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }

    model = TimmClassifier("resnet18", 1000, pretrained=saved(tmp_path / "old.pth", old))

    assert torch.equal(model.state_dict()["bn1.running_mean"], published.bn1.running_mean)


def test_another_networks_file_is_refused(file):
    with pytest.raises(CheckpointError, match=r"does not fit 'resnet34': \d+ of its \d+ weights"):
        TimmClassifier("resnet34", num_classes=3, pretrained=file)


def test_a_file_of_other_shapes_is_refused(published, tmp_path):
    weights = published.state_dict()
    weights["layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    path = saved(tmp_path / "other.pth", weights)

    with pytest.raises(CheckpointError, match=r"does not fit 'resnet18': .*layer1\.0\.conv1"):
        TimmClassifier("resnet18", num_classes=3, pretrained=path)


def test_a_missing_file():
    with pytest.raises(CheckpointError, match=r"'nowhere\.pth' does not exist"):
        TimmClassifier("resnet18", num_classes=3, pretrained="nowhere.pth")


@pytest.mark.parametrize("kind", [TimmClassifier, TimmBackbone])
def test_mmengines_initialisation_keeps_the_weights(kind, file):
    extra = {"num_classes": 3} if kind is TimmClassifier else {}
    model = kind(model_name="resnet18", pretrained=file, **extra)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}

    model.init_weights()

    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())


def test_random_weights_follow_the_seed():
    first, second, other = (
        (torch.manual_seed(seed), TimmClassifier(SMALL, num_classes=3).state_dict())[1]
        for seed in (0, 0, 1)
    )

    assert torch.equal(first["fc.weight"], second["fc.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


# ---- weights by name ----


def test_weights_that_cannot_be_fetched_are_one_sentence():
    with (
        pytest.raises(CheckpointError) as caught,
        timm_weights("resnet18.a1_in1k", pretrained=True) as arguments,
    ):
        assert arguments == {"pretrained": True}
        raise LocalEntryNotFoundError("no network")

    message = str(caught.value)
    assert message.startswith("timm's weights 'timm/resnet18.a1_in1k' are not in the local cache")
    assert "set pretrained = 'path/to/the/file'" in message
    assert "\n" not in message


def test_a_model_that_timm_has_no_weights_of():
    name = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))

    with (
        pytest.raises(CheckpointError, match=f"pretrained=True does not fit '{name}': No pretrain"),
        timm_weights(name, pretrained=True),
    ):
        raise RuntimeError(f"No pretrained weights exist for {name}.")


@pytest.mark.parametrize(
    ("name", "nearest"), [("resnett18", "'resnet18'"), ("resnet18.a1_in2k", "'resnet18.a1_in1k'")]
)
def test_an_unknown_model_names_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=f"'{name}' is not a model of timm") as caught:
        TimmClassifier(name, num_classes=3)

    assert nearest in str(caught.value)


@pytest.mark.parametrize("pretrained", [False, "file"])
def test_errors_of_other_origin_pass(pretrained, file):
    path = file if pretrained else False
    with pytest.raises(OSError, match="disk"), timm_weights("resnet18", path):
        raise OSError("disk")


def test_an_error_without_pretrained_weights_passes():
    with pytest.raises(RuntimeError, match="mine"), timm_weights("resnet18"):
        raise RuntimeError("mine")


# ---- feature maps ----


def test_feature_maps_equal_timms(published, file, images):
    backbone = TimmBackbone("resnet18", pretrained=file, out_indices=(1, 4)).eval()
    timms = timm.create_model("resnet18", features_only=True, out_indices=(1, 4)).eval()
    timms.load_state_dict(published.state_dict(), strict=False)

    with torch.no_grad():
        maps, expected = backbone(images), timms(images)

    assert type(maps) is tuple
    assert [map.shape for map in maps] == [(2, 64, 16, 16), (2, 512, 2, 2)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(maps, expected, strict=True))
    assert backbone.out_channels == [64, 512]


def test_a_backbone_for_grey_images():
    backbone = TimmBackbone(SMALL, in_channels=1, out_indices=(2,))

    (features,) = backbone(torch.zeros(1, 1, 64, 64))

    assert features.shape[1:] == (backbone.out_channels[0], 8, 8)


def test_further_arguments_reach_timm():
    backbone = TimmBackbone(SMALL, out_indices=(4,), output_stride=16)

    assert backbone(torch.zeros(1, 3, 64, 64))[0].shape[2:] == (4, 4)


@pytest.mark.parametrize(
    ("name", "strides"), [(SMALL, [2, 4, 8, 16, 32]), ("convnext_atto", [4, 8, 16, 32])]
)
def test_all_levels(name, strides):
    backbone = TimmBackbone(name, out_indices=None)

    features = backbone(torch.zeros(1, 3, 64, 64))

    assert [64 // feature.shape[2] for feature in features] == strides
    assert [feature.shape[1] for feature in features] == backbone.out_channels
    assert backbone.stride == 32
