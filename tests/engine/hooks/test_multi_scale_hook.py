from __future__ import annotations

import copy
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.registry import MODEL_WRAPPERS
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from aicore.apis import train
from aicore.engine.hooks import MultiScaleHook, multi_scale_hook
from aicore.errors import ConfigError
from aicore.registry import HOOKS

RANGE = dict(size_range=(64, 160))  # 64, 96, 128, 160


class Model(BaseModel):
    def forward(self, inputs, data_samples=None, mode="tensor"):
        return inputs


@MODEL_WRAPPERS.register_module()
class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def make_runner(model: nn.Module | None = None, seed: int = 0) -> SimpleNamespace:
    model = model or Model(ImgDataPreprocessor())
    return SimpleNamespace(model=model, seed=seed, iter=0, on_exit=ExitStack())


def batch_of(height: int, width: int, samples: list | None = None) -> dict:
    return dict(inputs=[torch.zeros(3, height, width)] * 2, data_samples=samples)


def sizes_of(runner, iterations, shape=(96, 96), start=0) -> list[tuple[int, int]]:
    """Returns what size the batches of the iterations have."""
    model = runner.model.module if isinstance(runner.model, Wrapper) else runner.model
    sizes = []
    for runner.iter in range(start, start + iterations):
        batch = model.data_preprocessor(batch_of(*shape), True)
        sizes.append(tuple(batch["inputs"].shape[-2:]))
    return sizes


def trained_sizes(hook: MultiScaleHook, **options) -> list[tuple[int, int]]:
    runner = make_runner(seed=options.pop("seed", 0))
    hook.before_train(runner)
    return sizes_of(runner, **options)


# ---- which size, and when ----


def test_a_size_lasts_for_the_interval_and_every_size_is_drawn():
    sizes = trained_sizes(MultiScaleHook(**RANGE, interval=3), iterations=3 * 40)

    assert sizes == [size for size in sizes[::3] for _ in range(3)]
    assert set(sizes) == {(side, side) for side in (64, 96, 128, 160)}
    assert sum(a != b for a, b in zip(sizes[::3], sizes[3::3], strict=False)) > 20


def test_the_sizes_follow_from_seed_and_iteration_alone():
    whole = trained_sizes(MultiScaleHook(**RANGE, interval=3), iterations=60)

    assert trained_sizes(MultiScaleHook(**RANGE, interval=3), iterations=60) == whole
    for start in (1, 3, 17, 42):  # as after a resume
        later = trained_sizes(MultiScaleHook(**RANGE, interval=3), iterations=18, start=start)
        assert later == whole[start : start + 18]
    assert trained_sizes(MultiScaleHook(**RANGE, interval=3), iterations=60, seed=1) != whole


def test_all_processes_take_the_seed_of_the_first(monkeypatch):
    def first_process(make):
        return 5  # which is asked for its seed; ours is another with diff_rank_seed

    whole = trained_sizes(MultiScaleHook(**RANGE), iterations=99, seed=5)
    monkeypatch.setattr(multi_scale_hook, "broadcast_object", first_process)
    assert trained_sizes(MultiScaleHook(**RANGE), iterations=99, seed=6) == whole


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (64, (96, 96), (64, 64)),
        (128, (64, 96), (128, 192)),
        (128, (96, 64), (192, 128)),
        (64, (96, 100), (64, 64)),  # 66.7
        (64, (100, 160), (64, 96)),  # 102.4
        ((64, 160), (96, 96), (64, 160)),
        ([64, 160], (10, 20), (64, 160)),  # as read from JSON
    ],
)
def test_a_number_is_the_shorter_side_and_a_pair_both(size, shape, expected):
    hook = MultiScaleHook(sizes=[size])
    assert trained_sizes(hook, iterations=1, shape=shape) == [expected]


def test_a_range_holds_its_ends():
    assert MultiScaleHook(size_range=(60, 100), divisor=20).sizes == [60, 80, 100]
    assert MultiScaleHook(size_range=(60, 100)).sizes == [64, 96]
    assert MultiScaleHook(size_range=(96, 96)).sizes == [96]


# ---- on what ----


def test_labels_go_with_the_images():
    runner = make_runner()
    MultiScaleHook(sizes=[64]).before_train(runner)
    boxes = InstanceData(bboxes=torch.tensor([[0.0, 24, 48, 96]]))
    sample = BaseDataElement(gt_instances=boxes)

    for _ in range(2):
        batch = runner.model.data_preprocessor(batch_of(96, 96, [sample] * 2), training=True)
        for result in batch["data_samples"]:
            assert result.gt_instances.bboxes.tolist() == [[0, 16, 32, 64]]


def test_only_training_batches_are_rescaled():
    runner = make_runner()
    MultiScaleHook(sizes=[64]).before_train(runner)
    preprocessor = runner.model.data_preprocessor

    assert preprocessor(batch_of(96, 96), True)["inputs"].shape[-2:] == (64, 64)
    for batch in (
        preprocessor(batch_of(96, 96)),
        preprocessor(batch_of(96, 96), False),
        preprocessor(batch_of(96, 96), training=False),
    ):
        assert batch["inputs"].shape[-2:] == (96, 96)


def test_it_looks_through_wrappers():
    runner = make_runner(Wrapper(Model(ImgDataPreprocessor())))
    MultiScaleHook(sizes=[64]).before_train(runner)
    assert sizes_of(runner, 1) == [(64, 64)]


def test_the_model_is_left_as_it_was():
    runner = make_runner()
    hook = MultiScaleHook(sizes=[64])
    for _ in range(2):
        hook.before_train(runner)
        runner.on_exit.close()  # as the Runner does, at the end or after an error
        assert not runner.model.data_preprocessor._forward_hooks
        assert sizes_of(runner, 1) == [(96, 96)]


def test_the_model_can_be_copied_without_the_runner():
    runner = make_runner()
    runner.generator = (item for item in ())  # deepcopy would fail on it
    MultiScaleHook(sizes=[64]).before_train(runner)
    assert isinstance(copy.deepcopy(runner.model), Model)


def test_a_batch_without_one_tensor_of_images_is_refused():
    class Views(ImgDataPreprocessor):
        def forward(self, data, training=False):
            return dict(inputs=[torch.zeros(3, 8, 8)], data_samples=None)

    runner = make_runner(Model(Views()))
    MultiScaleHook(sizes=[64]).before_train(runner)
    with pytest.raises(ConfigError, match=r"MultiScaleHook needs a data preprocessor"):
        runner.model.data_preprocessor({}, True)


def test_a_training(small_config, tmp_path):
    seen: list[tuple[int, bool]] = []

    class Spy(MultiScaleHook):
        def before_train(self, runner):
            super().before_train(runner)
            handle = runner.model.model.register_forward_pre_hook(
                lambda module, args: seen.append((args[0].shape[-1], module.training))
            )
            runner.on_exit.callback(handle.remove)

    HOOKS.register_module(name="SpyMultiScaleHook", module=Spy, force=True)
    hook = dict(type="aicore.SpyMultiScaleHook", sizes=[32, 64], interval=1)
    runner = train(small_config(max_epochs=4, custom_hooks=[hook]), work_dir=tmp_path / "run")

    expected = MultiScaleHook(sizes=[32, 64], interval=1)
    wanted = [expected.size_at(runner.seed, index) for index in range(runner.iter)]
    assert [side for side, training in seen if training] == wanted
    assert set(wanted) == {32, 64}
    assert {side for side, training in seen if not training} == {32}


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "given neither"),
        (dict(sizes=[64], size_range=(64, 96)), "given both"),
        (dict(sizes=[]), r"MultiScaleHook.sizes = \[\]"),
        (dict(sizes=64), "MultiScaleHook.sizes = 64"),
        (dict(sizes=[64, "96"]), r"MultiScaleHook.sizes\[1\] = '96'"),
        (dict(sizes=[64.0]), r"MultiScaleHook.sizes\[0\] = 64.0"),
        (dict(sizes=[(64, 64, 3)]), r"MultiScaleHook.sizes\[0\] = \(64, 64, 3\)"),
        (dict(sizes=[(64,)]), r"MultiScaleHook.sizes\[0\] = \(64,\)"),
        (dict(sizes=[0]), r"MultiScaleHook.sizes\[0\] = 0"),
        (dict(sizes=[100]), r"MultiScaleHook.sizes\[0\] = 100 is no multiple of divisor = 32"),
        (dict(sizes=[(64, 100)]), r"MultiScaleHook.sizes\[0\] = \(64, 100\) is no multiple"),
        (dict(size_range=(96, 64)), r"MultiScaleHook.size_range = \(96, 64\) holds no multiple"),
        (dict(size_range=(65, 95)), r"MultiScaleHook.size_range = \(65, 95\) holds no multiple"),
        (dict(size_range=64), "MultiScaleHook.size_range = 64"),
        (dict(size_range=(64, 96, 128)), "MultiScaleHook.size_range"),
        (dict(size_range=(True, 96)), "MultiScaleHook.size_range"),
        (dict(sizes=[64], interval=0), "MultiScaleHook.interval = 0"),
        (dict(sizes=[64], divisor=-32), "MultiScaleHook.divisor = -32"),
        (dict(sizes=[64], interval=True), "MultiScaleHook.interval = True"),
    ],
)
def test_wrong_arguments_are_refused(arguments, told):
    with pytest.raises(ConfigError, match=told):
        MultiScaleHook(**arguments)
