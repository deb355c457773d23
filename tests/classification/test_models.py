from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import timm
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope, init_default_scope
from torch.nn import functional as F  # noqa: N812

from aicore.classification import TimmClassifier
from aicore.config import load_config
from aicore.errors import ConfigError
from aicore.registry import MODELS

SMALL = "test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def in_mmpretrain():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


@pytest.fixture
def logits():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


# ---- the classifier ----


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0] * 5])
def test_class_weights_of_another_count(weights):
    with pytest.raises(ConfigError, match=rf"has {len(weights)} values for 4 classes"):
        TimmClassifier(SMALL, 4, loss=dict(type="CrossEntropyLoss", class_weight=weights))


def test_checkpoints_have_timms_key_names():
    state = TimmClassifier(SMALL, num_classes=4).state_dict()

    assert state.keys() == timm.create_model(SMALL, num_classes=4).state_dict().keys()


def test_further_arguments_reach_timm():
    model = TimmClassifier(SMALL, num_classes=4, drop_rate=0.3)

    assert model.model.drop_rate == 0.3


# ---- one step through the knobs of the configs ----


@pytest.fixture(scope="module")
def batch_of(class_folders):
    """A function that runs a config's training pipeline on six images."""

    def collect(config) -> dict:
        files = sorted((class_folders / "train").rglob("*_[01].png"))
        names = sorted({file.parent.name for file in files})
        pipeline = Compose(config.train_dataloader.dataset.pipeline)
        items = [{"img_path": str(f), "gt_label": names.index(f.parent.name)} for f in files]
        return pseudo_collate([pipeline(item) for item in items])

    return collect


def train_a_step(config, batch) -> tuple[torch.nn.Module, float, float]:
    """Returns the model and its loss before and after two optimiser steps on one batch."""
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    np.random.seed(0)
    model = MODELS.build(config.model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    losses = [model.train_step(batch, wrapper)["loss"].item() for _ in range(3)]
    return model, losses[0], losses[-1]


def options_of(**changed) -> dict:
    return {"model_name": SMALL, **changed}


def test_the_default_loss_is_cross_entropy(leaf_config, batch_of):
    config = load_config(leaf_config, options_of())

    _, first, last = train_a_step(config, batch_of(config))

    assert first == pytest.approx(math.log(3), abs=0.3)  # nothing learnt yet
    assert last < first


def test_class_weights_change_the_loss(leaf_config, batch_of):
    config = load_config(leaf_config, options_of())
    weighted = load_config(leaf_config, options_of(**{"loss.class_weight": [4.0, 1.0, 1.0]}))
    batch = batch_of(config)

    model, loss, _ = train_a_step(weighted, batch)

    assert model.loss_module.class_weight == [4.0, 1.0, 1.0]
    assert loss == pytest.approx(train_a_step(config, batch)[1] * 2, rel=0.3)


@pytest.mark.parametrize(
    "loss",
    [
        dict(type="LabelSmoothLoss", label_smooth_val=0.1),
        dict(type="aicore.SoftmaxFocalLoss", gamma=2.0, class_weight=[1.0, 2.0, 3.0]),
        dict(type="CrossEntropyLoss", class_weight=[1.0, 2.0, 3.0]),
    ],
    ids=lambda loss: loss["type"],
)
@pytest.mark.parametrize(
    "augments",
    [[], [dict(type="Mixup", alpha=0.2), dict(type="CutMix", alpha=1.0)]],
    ids=["plain", "mixed"],
)
def test_losses_and_batch_augmentation_train(leaf_config, batch_of, tmp_path, loss, augments):
    leaf = tmp_path / "leaf.py"
    leaf.write_text(
        f"_base_ = {str(leaf_config)!r}\nmodel_name = {SMALL!r}\n"
        f"loss = {loss!r}\nbatch_augments = {augments!r}\n",
        encoding="utf-8",
    )
    config = load_config(leaf)
    batch = batch_of(config)

    model, first, last = train_a_step(config, batch)

    assert 0 < first < 10
    assert 0 < last < 10
    assert type(model.loss_module).__name__ == loss["type"].rpartition(".")[2]
    assert bool(model.data_preprocessor.batch_augments) is bool(augments)
    prepared = model.data_preprocessor(batch, training=True)["data_samples"]
    assert ("gt_score" in prepared[0]) is bool(augments)


def test_label_smoothing_is_its_formula(leaf_config, tmp_path, logits):
    leaf = tmp_path / "leaf.py"
    leaf.write_text(
        f"_base_ = {str(leaf_config)!r}\nmodel_name = {SMALL!r}\nclasses = ('a', 'b', 'c', 'd')\n"
        "loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1)\n",
        encoding="utf-8",
    )

    loss = MODELS.build(load_config(leaf).model).loss_module(logits, LABELS)

    expected = F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    assert torch.allclose(loss, expected)


# ---- a timm backbone with neck and head ----


@pytest.mark.parametrize("channels", [1, 3])
def test_a_timm_backbone_with_neck_and_head(leaf_config, batch_of, tmp_path, channels):
    leaf = tmp_path / "leaf.py"
    leaf.write_text(
        f"_base_ = {str(leaf_config)!r}\nin_channels = {channels}\n"
        "model = dict(_delete_=True, type='ImageClassifier',\n"
        "    backbone=dict(type='aicore.TimmBackbone', model_name='resnet10t',\n"
        "        in_channels='${in_channels}'),\n"
        "    neck=dict(type='GlobalAveragePooling'),\n"
        "    head=dict(type='LinearClsHead', num_classes='${num_classes}', in_channels=512),\n"
        "    data_preprocessor=_base_.model.data_preprocessor)\n",
        encoding="utf-8",
    )
    config = load_config(leaf)
    batch = batch_of(config)

    model, first, last = train_a_step(config, batch)

    assert last < first
    model.eval()
    with torch.no_grad():
        samples = model.test_step(batch)
    assert [sample.pred_score.shape for sample in samples] == [(3,)] * 6
    assert all(float(sample.pred_score.sum()) == pytest.approx(1) for sample in samples)
    assert batch["inputs"][0].shape == (channels, 32, 32)


def test_prediction_and_loss_use_one_forward(leaf_config, batch_of):
    config = load_config(leaf_config, options_of())
    batch = batch_of(config)
    model = MODELS.build(config.model).eval()

    with torch.no_grad():
        data = model.data_preprocessor(batch)
        scores = model(**data, mode="tensor").softmax(dim=1)
        samples = model(**data, mode="predict")
        loss = model(**data, mode="loss")["loss"]

    assert torch.allclose(torch.stack([s.pred_score for s in samples]), scores)
    labels = torch.cat([sample.gt_label for sample in samples])
    assert torch.allclose(loss, F.nll_loss(scores.log(), labels))


def test_the_data_preprocessor_turns_to_rgb_and_normalises(leaf_config, tmp_path):
    config = load_config(leaf_config, options_of())
    blue = np.zeros((4, 4, 3), np.uint8)
    blue[..., 0] = 255
    cv2.imwrite(str(tmp_path / "blue.png"), blue)
    init_default_scope("mmpretrain")
    pipeline = Compose(config.test_dataloader.dataset.pipeline)
    model = MODELS.build(config.model)

    batch = pseudo_collate([pipeline({"img_path": str(tmp_path / "blue.png")})])
    inputs = model.data_preprocessor(batch)["inputs"]

    expected = [(0 - 123.675) / 58.395, (0 - 116.28) / 57.12, (255 - 103.53) / 57.375]
    assert inputs.shape == (1, 3, 32, 32)
    assert inputs[0, :, 5, 5].tolist() == pytest.approx(expected, abs=1e-4)
