from __future__ import annotations

import mmpretrain.datasets
import mmpretrain.evaluation
import mmpretrain.models  # noqa: F401 - registers what is misspelt here
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from aicore.errors import ConfigError
from aicore.registry import (
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    RUNNERS,
    TASKS,
    TRANSFORMS,
    TaskRegistry,
    explain_build_errors,
    registered_names,
    root,
)


@pytest.fixture(autouse=True)
def in_mmpretrain():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


def config_of(**settings) -> Config:
    config = Config(settings)
    object.__setattr__(config, "_filename", "mine.py")
    return config


def explained(config: Config, build, *arguments, **keywords) -> str:
    """Returns the sentence that a failing ``build`` ends with."""
    with pytest.raises(ConfigError) as caught, explain_build_errors(config):
        build(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- unknown types ----


@pytest.mark.parametrize(
    ("registry", "name", "nearest"),
    [
        (TRANSFORMS, "Resiz", "'Resize' or "),
        (TRANSFORMS, "aicore.LoadImag", "'aicore.LoadImage'"),
        (METRICS, "Acuracy", "'Accuracy'?"),
        (MODELS, "aicore.TimmClasifier", "'aicore.TimmClassifier' or "),
        (HOOKS, "aicore.BadImagesHook", "'aicore.BadImageHook'"),
        (HOOKS, "EarlyStopingHook", "'EarlyStoppingHook'"),
        (TASKS, "Clasification", "'Classification'"),
    ],
)
def test_an_unknown_type_names_the_nearest(registry, name, nearest):
    config = config_of(part=dict(type=name))

    sentence = explained(config, registry.build, config.part)

    assert sentence.startswith(f"mine.py: part.type = {name!r} is not registered. Searched: ")
    assert f"{registry.name} registry" in sentence
    assert f" Did you mean {nearest}" in sentence
    assert "custom_imports = dict(imports=['your.module'])" in sentence


def test_the_place_of_a_type_deep_in_the_config():
    config = config_of(
        train_dataloader=dict(
            dataset=dict(
                type="aicore.ClassificationDataset",
                split="train",
                metainfo=dict(classes=("a", "b")),
                lazy_init=True,
                pipeline=[dict(type="aicore.LoadImage"), dict(type="RandomFlipp", prob=0.5)],
            )
        )
    )

    sentence = explained(config, DATASETS.build, config.train_dataloader.dataset)

    place = "train_dataloader.dataset.pipeline[1].type = 'RandomFlipp'"
    assert sentence.startswith(f"mine.py: {place} is not registered.")
    assert "'RandomFlip'" in sentence


def test_a_type_in_a_nested_tuple():
    config = config_of(model=dict(parts=(dict(a=1), [dict(type="Nothing")])))

    sentence = explained(config, MODELS.build, config.model.parts[1][0])

    assert "model.parts[1][0].type = 'Nothing' is not registered" in sentence


def test_a_type_that_the_config_does_not_hold():
    sentence = explained(config_of(), MODELS.build, dict(type="Resnet"))

    assert sentence.startswith("mine.py: type 'Resnet' is not registered.")
    assert "'ResNet'" in sentence


def test_an_unknown_schedule():
    config = config_of(default_scope="mmpretrain", param_scheduler=[dict(type="CosineAnealingLR")])

    sentence = explained(config, root.PARAM_SCHEDULERS.build, config.param_scheduler[0])

    assert "param_scheduler[0].type = 'CosineAnealingLR' is not registered" in sentence
    assert "'CosineAnnealingLR'" in sentence


def test_an_unknown_runner():
    config = config_of(default_scope="mmpretrain", runner_type="aicore.Runer")

    sentence = explained(config, RUNNERS.build, config)

    assert "'aicore.Runner'" in sentence


def test_an_unknown_optimiser():
    config = config_of(optim_wrapper=dict(optimizer=dict(type="Adamw", lr=0.1)))

    sentence = explained(
        config, build_optim_wrapper, torch.nn.Linear(1, 1), config.optim_wrapper.copy()
    )

    assert "optim_wrapper.optimizer.type = 'Adamw' is not registered" in sentence
    assert "'AdamW'" in sentence


# ---- wrong arguments ----


def test_an_argument_that_a_class_does_not_take():
    config = config_of(pipeline=[dict(type="Resize", scal=32)])

    sentence = explained(config, TRANSFORMS.build, config.pipeline[0])

    assert sentence.startswith(
        "mine.py: pipeline[0].scal: Resize takes no argument 'scal'. Did you mean 'scale'"
    )
    assert "It takes: scale, scale_factor, keep_ratio," in sentence
    assert "self" not in sentence


def test_an_argument_of_an_optimiser():
    config = config_of(optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1, momentm=0.9)))

    sentence = explained(
        config, build_optim_wrapper, torch.nn.Linear(1, 1), config.optim_wrapper.copy()
    )

    assert "optim_wrapper.optimizer.momentm: SGD takes no argument 'momentm'" in sentence
    assert "Did you mean 'momentum'?" in sentence


def test_an_argument_that_a_parent_class_refuses():
    config = config_of(
        schedule=dict(type="LinearLR", start_facto=0.1, by_epoch=True), other=dict(begin=3)
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    sentence = explained(
        config, root.PARAM_SCHEDULERS.build, config.schedule, default_args=dict(optimizer=optimizer)
    )

    assert "schedule.start_facto: LinearParamScheduler takes no argument" in sentence
    assert "Did you mean 'start_factor'" in sentence


def test_an_argument_that_a_class_hands_on_to_another():
    config = config_of(
        model=dict(type="aicore.TimmClassifier", model_name="resnet10t", num_classes=2, droprate=1)
    )

    sentence = explained(config, MODELS.build, config.model)

    assert sentence == "mine.py: model.droprate: ResNet takes no argument 'droprate'."


def test_an_argument_in_a_dict_without_a_type():
    config = config_of(train_dataloader=dict(batchsize=3), train_cfg=dict(max_epoch=3))

    loader = explained(config, DataLoader, [1], **config.train_dataloader)
    loop = explained(config, EpochBasedTrainLoop, None, None, **config.train_cfg)

    assert loader == (
        "mine.py: train_dataloader.batchsize: DataLoader takes no argument 'batchsize'."
    )
    assert "train_cfg.max_epoch: EpochBasedTrainLoop takes no argument 'max_epoch'" in loop
    assert "Did you mean 'max_epochs'?" in loop


def test_the_class_itself_comes_before_others_with_the_same_argument():
    config = config_of(a=dict(type="RandomFlip", size=3), b=dict(type="CenterCrop", size=3))

    sentence = explained(config, TRANSFORMS.build, config.b)

    assert sentence.startswith("mine.py: b.size: CenterCrop takes no argument 'size'.")


def test_a_missing_argument():
    config = config_of(pipeline=[dict(type="CenterCrop")])

    sentence = explained(config, TRANSFORMS.build, config.pipeline[0])

    assert sentence == (
        "mine.py: pipeline[0] (CenterCrop): missing 1 required positional argument: 'crop_size'."
    )


# ---- errors of other origin ----


@pytest.mark.parametrize(
    "error",
    [
        KeyError("image"),
        KeyError(3),
        KeyError(),
        TypeError("unsupported operand type(s) for +: 'int' and 'str'"),
        TypeError("collate() got an unexpected keyword argument 'nothing_of_the_config'"),
        TypeError("build() got an unexpected keyword argument 'type'"),
        TypeError("f() missing 1 required positional argument: 'x'"),
        ValueError("Resiz is not in the mmpretrain::transform registry"),
        RuntimeError("out of memory"),
    ],
    ids=repr,
)
def test_other_errors_pass_untouched(error):
    config = config_of(part=dict(type="Resize", scale=3))

    with pytest.raises(type(error)) as caught, explain_build_errors(config):
        raise error

    assert caught.value is error


def test_nothing_happens_without_an_error():
    config = config_of(part=dict(type="Resize", scale=3))

    with explain_build_errors(config):
        resize = TRANSFORMS.build(config.part)

    assert resize.scale == (3, 3)


# ---- names ----


def test_names_stand_bare_in_their_own_scope_only():
    in_mmpretrain = registered_names("model", "mmpretrain")
    in_aicore = registered_names("model", "aicore")

    assert {"TimmClassifier", "aicore.TimmClassifier", "ImageClassifier"} <= set(in_mmpretrain)
    assert {"mmpretrain.ImageClassifier", "TimmBackbone"} <= set(in_aicore)
    assert "ImageClassifier" not in in_aicore
    assert in_aicore == sorted(in_aicore)


def test_names_of_mmengine_stand_bare_everywhere():
    assert "EarlyStoppingHook" in registered_names("hook", "mmpretrain")
    assert "EarlyStoppingHook" in registered_names("hook", "aicore")


# ---- tasks ----


@pytest.mark.parametrize(
    ("scope", "first"),
    [
        ("aicore", "aicore.anomaly"),
        ("mmpretrain", "aicore.classification"),
        ("mmseg", "aicore.segmentation"),
        ("mmdet", "aicore.detection"),
        ("another", "aicore.anomaly"),
    ],
)
def test_the_task_of_the_default_scope_is_imported_first(monkeypatch, scope, first):
    imported: list[str] = []
    monkeypatch.setattr("aicore.registry.importlib.import_module", imported.append)

    with DefaultScope.overwrite_default_scope(scope):
        found = TaskRegistry("toy", scope="aicore").get("Unknown")

    assert found is None
    assert imported[0] == first
    assert sorted(imported) == [
        "aicore.anomaly", "aicore.classification", "aicore.detection", "aicore.segmentation"
    ]  # fmt: skip
