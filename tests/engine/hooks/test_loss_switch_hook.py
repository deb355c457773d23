from __future__ import annotations

import logging
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODEL_WRAPPERS, DefaultScope
from mmpretrain.models.losses import CrossEntropyLoss, LabelSmoothLoss, SeesawLoss
from torch import nn

from aicore.apis import test as run_test
from aicore.apis import train
from aicore.engine.checkpoint import read_checkpoint
from aicore.engine.hooks import LossSwitchHook
from aicore.errors import CheckpointError, ConfigError
from aicore.registry import MODELS

LENGTH = 4  # iterations an epoch
SMOOTH = dict(type="LabelSmoothLoss", label_smooth_val=0.1, num_classes=3)
SEESAW = dict(type="SeesawLoss", num_classes=3)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loss_module = CrossEntropyLoss()
        self.losses = nn.ModuleList([CrossEntropyLoss(), CrossEntropyLoss()])
        self.use_l1 = False
        self.extra_loss = None

    def loss(self) -> None: ...

    @property
    def fixed(self) -> int:
        return 1


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = Head()
        self.linear = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.head.loss_module(self.linear(x), labels)


@MODEL_WRAPPERS.register_module()
class LossSwitchWrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@MODELS.register_module()
class LossWithWeight(nn.Module):
    def __init__(self, trained: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=trained)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


def make_runner(model: nn.Module | None = None, epoch: int = 0, iteration: int | None = None):
    return SimpleNamespace(
        model=model or Model(),
        epoch=epoch,
        iter=epoch * LENGTH if iteration is None else iteration,
        train_dataloader=range(LENGTH),
        logger=logging.getLogger("test_loss_switch"),
        message_hub=SimpleNamespace(log_scalars={}),
        cfg=Config(dict(default_scope="mmpretrain")),
        _resume=False,
    )


def started(switches: list, **options) -> tuple[LossSwitchHook, SimpleNamespace]:
    hook, runner = LossSwitchHook(switches), make_runner(**options)
    hook.before_train(runner)
    return hook, runner


def state(head: Head) -> tuple:
    weight = head.losses[1].loss_weight
    return type(head.loss_module).__name__, head.loss_module.loss_weight, head.use_l1, weight


SWITCHES = [
    dict(epoch=4, set={"head.loss_module.loss_weight": 3.0, "head.use_l1": True}),
    dict(epoch=2, set={"head.loss_module": SMOOTH, "head.losses.1.loss_weight": 2.0}),
    dict(epoch=5, set={"head.loss_module": SEESAW, "head.losses.1.loss_weight": 0.5}),
]
EXPECTED = [
    ("CrossEntropyLoss", 1.0, False, 1.0),
    ("CrossEntropyLoss", 1.0, False, 1.0),
    ("LabelSmoothLoss", 1.0, False, 2.0),
    ("LabelSmoothLoss", 1.0, False, 2.0),
    ("LabelSmoothLoss", 3.0, True, 2.0),
    ("SeesawLoss", 1.0, True, 0.5),
    ("SeesawLoss", 1.0, True, 0.5),
]


# ---- which values, and when ----


@pytest.mark.parametrize("first", range(len(EXPECTED)))
def test_the_values_follow_from_the_epoch_wherever_training_begins(first):
    hook, runner = started(SWITCHES, epoch=first)
    seen = []
    for runner.epoch in range(first, len(EXPECTED)):
        hook.before_train_epoch(runner)
        seen.append(state(runner.model.head))
    assert seen == EXPECTED[first:]


@pytest.mark.parametrize("epoch", range(1, len(EXPECTED)))
def test_a_validation_that_was_due_at_the_resume_has_the_values_of_its_epoch(epoch):
    _, runner = started(SWITCHES, epoch=epoch)
    assert state(runner.model.head) == EXPECTED[epoch - 1]


@pytest.mark.parametrize("epoch", range(len(EXPECTED)))
def test_within_an_epoch(epoch):
    hook, runner = started(SWITCHES, epoch=epoch, iteration=epoch * LENGTH + 1)
    assert state(runner.model.head) == EXPECTED[epoch]
    hook.before_train_epoch(runner)
    assert state(runner.model.head) == EXPECTED[epoch]


def test_back_at_an_earlier_epoch_the_model_has_the_very_values_of_before():
    hook, runner = started(SWITCHES)
    head = runner.model.head
    own, own_state = head.loss_module, runner.model.state_dict().keys()
    for runner.epoch in (6, 3, 5, 0):
        hook.before_train_epoch(runner)
        assert state(head) == EXPECTED[runner.epoch]
    assert head.loss_module is own
    assert runner.model.state_dict().keys() == own_state


def test_the_switches_given_are_not_changed():
    switches = [ConfigDict(switch) for switch in SWITCHES]
    hook, runner = started(switches)
    runner.epoch = 6
    hook.before_train_epoch(runner)
    assert switches == SWITCHES
    assert state(runner.model.head) == EXPECTED[6]


def test_the_new_loss_is_computed():
    hook, runner = started([dict(epoch=1, set={"head.loss_module": SMOOTH})])
    x, labels = torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])
    scores = runner.model.linear(x)

    assert torch.equal(runner.model(x, labels), CrossEntropyLoss()(scores, labels))
    runner.epoch = 1
    hook.before_train_epoch(runner)
    smooth = LabelSmoothLoss(label_smooth_val=0.1, num_classes=3)
    assert torch.equal(runner.model(x, labels), smooth(scores, labels))


def test_a_compiled_model():
    model = Model()
    x, labels = torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])
    new, scaled = {"head.loss_module": SMOOTH}, {"head.loss_module.loss_weight": 3.0}
    hook, runner = started([dict(epoch=1, set=new), dict(epoch=2, set=scaled)], model=model)
    model.compile(backend="eager")

    losses = []
    for runner.epoch in (0, 1, 2):
        hook.before_train_epoch(runner)
        losses.append(model(x, labels))
        torch.testing.assert_close(losses[-1], model.forward(x, labels))
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[2], 3 * losses[1])


def test_a_wrapped_model_and_a_missing_loss():
    values = {"head.extra_loss": SEESAW, "head.losses.0": None}
    model = Model()
    hook, runner = started([dict(epoch=1, set=values)], model=LossSwitchWrapper(model))
    assert model.head.extra_loss is None
    runner.epoch = 1
    hook.before_train_epoch(runner)
    assert isinstance(model.head.extra_loss, SeesawLoss)
    assert model.head.losses[0] is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_new_loss_goes_where_the_model_is():
    hook, runner = started([dict(epoch=0, set={"head.loss_module": SEESAW})], model=Model().cuda())
    hook.before_train_epoch(runner)
    assert runner.model.head.loss_module.cum_samples.is_cuda


def test_a_line_is_logged_when_a_switch_takes_effect_and_only_then(caplog):
    hook, runner = started(SWITCHES)
    lines = []
    for runner.epoch in (0, 1, 2, 3, 5):
        caplog.clear()
        with caplog.at_level(logging.INFO, "test_loss_switch"):
            hook.before_train_epoch(runner)
        lines.append(caplog.messages)
    assert lines == [
        [],
        [],
        [
            "LossSwitchHook, from epoch 3 on: head.loss_module = LabelSmoothLoss, "
            "head.losses.1.loss_weight = 2.0"
        ],
        [],
        [
            "LossSwitchHook, from epoch 5 on: head.loss_module.loss_weight = 3.0, "
            "head.use_l1 = True",
            "LossSwitchHook, from epoch 6 on: head.loss_module = SeesawLoss, "
            "head.losses.1.loss_weight = 0.5",
        ],
    ]


# ---- checkpoints ----


def saved(hook: LossSwitchHook, runner: SimpleNamespace) -> dict:
    checkpoint = {
        "state_dict": runner.model.state_dict(),
        "ema_state_dict": OrderedDict(runner.model.state_dict()),
        "meta": {},
    }
    hook.before_save_checkpoint(runner, checkpoint)
    return checkpoint


def test_logged_losses_are_forgotten_when_a_switch_takes_effect_and_only_then():
    hook = LossSwitchHook([dict(epoch=2, set={"head.loss_module": SMOOTH})])
    runner = make_runner()
    hook.before_train(runner)
    for epoch, kept in ((1, True), (2, False), (3, True)):
        runner.epoch = epoch
        runner.message_hub.log_scalars |= {"train/decode.loss_ce": 1, "train/lr": 2, "val/loss": 3}
        hook.before_train_epoch(runner)

        assert ("train/decode.loss_ce" in runner.message_hub.log_scalars) is kept
        assert {"train/lr", "val/loss"} <= runner.message_hub.log_scalars.keys()


def test_weights_in_a_checkpoint_fit_the_model_of_the_config():
    model = Model()
    model.head.losses[0] = SeesawLoss(num_classes=5)
    own_state = {key: value.clone() for key, value in model.state_dict().items()}
    # The same name with another shape, a name more, and a switch within a switched loss.
    first = {"head.losses.0": SEESAW, "head.loss_module": SEESAW}
    second = {"head.loss_module.cls_criterion": torch.nn.functional.cross_entropy}
    switches = [dict(epoch=1, set=first), dict(epoch=2, set=second)]
    hook, runner = started(switches, model=model)

    for runner.epoch in (0, 1, 2, 3):
        hook.before_train_epoch(runner)
        if runner.epoch:
            model.head.losses[0].cum_samples += 1
        before = model.head.loss_module
        checkpoint = saved(hook, runner)
        assert model.head.loss_module is before
        for name in ("state_dict", "ema_state_dict"):
            assert checkpoint[name].keys() == own_state.keys()
            for key, value in own_state.items():
                assert torch.equal(checkpoint[name][key], value)
    assert model.head.losses[0].cum_samples.tolist() == [3, 3, 3]


def test_a_resume_takes_up_what_the_new_losses_held():
    switches = [dict(epoch=1, set={"head.loss_module": SEESAW})]
    hook, runner = started(switches)
    runner.epoch = 1
    hook.before_train_epoch(runner)
    runner.model.head.loss_module.cum_samples += torch.tensor([1.0, 2, 3])
    checkpoint = saved(hook, runner)

    for resume, expected in ((True, [1, 2, 3]), (False, [0, 0, 0])):
        other, later = LossSwitchHook(switches), make_runner(epoch=1)
        later._resume = resume
        other.after_load_checkpoint(later, checkpoint)
        later.model.load_state_dict(checkpoint["state_dict"])
        other.before_train(later)
        other.before_train_epoch(later)
        assert later.model.head.loss_module.cum_samples.tolist() == expected


def test_loading_into_a_model_with_another_loss_gives_it_its_own_back_first():
    hook, runner = started([dict(epoch=0, set={"head.loss_module": SEESAW})])
    hook.before_train_epoch(runner)
    hook.after_load_checkpoint(runner, {"state_dict": {}, "meta": {}})
    assert isinstance(runner.model.head.loss_module, CrossEntropyLoss)


def test_a_resume_with_other_losses_is_refused():
    hook, runner = started([dict(epoch=0, set={"head.loss_module": SEESAW})])
    checkpoint = saved(hook, runner)
    other = LossSwitchHook([dict(epoch=0, set={"head.loss_module": {**SEESAW, "num_classes": 4}})])
    runner._resume = True
    with pytest.raises(CheckpointError, match=r"not those of LossSwitchHook\.switches"):
        other.after_load_checkpoint(runner, checkpoint)


def test_losses_without_a_state_leave_nothing_in_a_checkpoint():
    hook, runner = started([dict(epoch=0, set={"head.loss_module": SMOOTH})])
    assert saved(hook, runner).keys() == {"state_dict", "ema_state_dict", "meta"}


def test_a_training_its_resume_after_and_within_an_epoch_and_a_test(small_config, tmp_path):
    switches = [
        dict(epoch=1, set={"loss_module": SEESAW}),
        dict(epoch=2, set={"loss_module.loss_weight": 0.5}),
    ]
    hooks = [
        dict(type="aicore.EMAHook", update_buffers=True),
        dict(type="aicore.LossSwitchHook", switches=switches),
    ]
    config = small_config(max_epochs=3, custom_hooks=hooks)
    saving = {"interval_iters": 2, "max_keep_ckpts": 9, "save_best": None}
    options = {f"default_hooks.checkpoint.{name}": value for name, value in saving.items()}
    whole = train(config, work_dir=tmp_path / "whole", options=options)
    assert isinstance(whole.model.loss_module, SeesawLoss)
    expected = read_checkpoint(tmp_path / "whole" / "epoch_3.pth")
    assert expected["loss_switch"]["0.cum_samples"].sum() == 2 * 24  # pictures of two epochs

    for name in ("epoch_1", "epoch_2_iter_2"):
        start = tmp_path / "whole" / f"{name}.pth"
        train(config, work_dir=tmp_path / name, resume=start, options=options)
        result = read_checkpoint(tmp_path / name / "epoch_3.pth")
        for part in ("state_dict", "ema_state_dict", "loss_switch"):
            assert result[part].keys() == expected[part].keys()
            for key, value in expected[part].items():
                assert torch.equal(result[part][key], value), (name, part, key)
    run_test(config, tmp_path / "whole" / "epoch_3.pth", out=tmp_path / "test")


# ---- mistakes ----


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        ([], r"LossSwitchHook.switches = \[\]"),
        (dict(epoch=1, set={"a": 1}), "LossSwitchHook.switches = "),
        ([3], r"LossSwitchHook.switches\[0\] = 3"),
        ([SWITCHES[0], dict(epoch=1)], r"LossSwitchHook.switches\[1\] = "),
        ([dict(epoch=1, set={"a": 1}, sets={})], r"LossSwitchHook.switches\[0\] = "),
        ([dict(epoch=-1, set={"a": 1})], r"LossSwitchHook.switches\[0\].epoch = -1"),
        ([dict(epoch=True, set={"a": 1})], r"LossSwitchHook.switches\[0\].epoch = True"),
        ([dict(epoch=1.0, set={"a": 1})], r"LossSwitchHook.switches\[0\].epoch = 1.0"),
        ([dict(epoch=1, set={})], r"LossSwitchHook.switches\[0\].set = {}"),
        ([dict(epoch=1, set=["a"])], r"LossSwitchHook.switches\[0\].set = \['a'\]"),
    ],
)
def test_wrong_arguments_are_refused(switches, told):
    with pytest.raises(ConfigError, match=told):
        LossSwitchHook(switches)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("head.loss_modul", 1, "Head has no attribute 'loss_modul' .*'loss_module'"),
        ("haed.loss_module", SMOOTH, "Model has no attribute 'haed' .*'head'"),
        ("head.losses.2", SMOOTH, "ModuleList has no attribute '2'"),
        ("head.losses.1.loss_wieght", 2.0, "CrossEntropyLoss has no .*'loss_weight'"),
        ("head.loss", SMOOTH, "Head has no attribute 'loss' that could be set"),
        ("head.", SMOOTH, "Head has no attribute ''"),
        ("head.loss_module", 2.0, "'head.loss_module' cannot be set to 2.0: cannot assign 'float'"),
        ("head.use_l1", SMOOTH, "'head.use_l1' cannot be set to LabelSmoothLoss"),
        ("head.fixed", 2, "'head.fixed' cannot be set to 2"),
        ("linear.weight", 2.0, "'linear.weight' cannot be set to 2.0: cannot assign 'float'"),
        (
            "head.loss_module",
            dict(type="LossWithWeight", _scope_="aicore"),
            r"'head.loss_module' = LossWithWeight has parameters to train \(weight\)",
        ),
    ],
)
def test_a_switch_that_cannot_be_made_stops_at_the_start(path, value, told):
    runner = make_runner()
    before = state(runner.model.head)
    hook = LossSwitchHook([SWITCHES[1], dict(epoch=99, set={path: value})])
    with pytest.raises(ConfigError, match=told):
        hook.before_train(runner)
    assert state(runner.model.head) == before


def test_an_unknown_loss_is_told_with_its_place():
    runner = make_runner()
    switches = [dict(epoch=9, set={"head.loss_module": dict(type="LabelSmothLoss")})]
    hook = dict(type="aicore.LossSwitchHook", switches=switches)
    runner.cfg = Config(dict(default_scope="mmpretrain", custom_hooks=[hook]))
    with pytest.raises(ConfigError) as error:
        LossSwitchHook(runner.cfg.custom_hooks[0].switches).before_train(runner)
    place = "custom_hooks[0].switches[0].set.head.loss_module.type = 'LabelSmothLoss'"
    assert place in str(error.value)
    assert "Did you mean 'LabelSmoothLoss'" in str(error.value)


def test_parameters_that_are_not_trained_are_allowed():
    value = dict(type="aicore.LossWithWeight", trained=False)
    hook, runner = started([dict(epoch=0, set={"head.loss_module": value})])
    hook.before_train_epoch(runner)
    assert isinstance(runner.model.head.loss_module, LossWithWeight)
