"""Precision, accumulation, clipping and skipping against plain torch."""

from __future__ import annotations

import copy
import io
import math
from contextlib import contextmanager

import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.optim import OptimWrapper as PlainWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from aicore.engine.optimizers import OptimWrapper
from aicore.engine.optimizers import wrapper as wrapper_module
from aicore.errors import CheckpointError, ConfigError

LENGTH = 7  # iterations of a training


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def wrap(model: nn.Module, groups: bool = False, **arguments) -> OptimWrapper:
    parameters = list(model.parameters())
    if groups:
        parameters = [{"params": parameters[:2], "lr": 0.2}, {"params": parameters[2:]}]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    return OptimWrapper(optimizer, **arguments)


def batch(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(index)
    images = torch.randn(4, 3, 8, 8, generator=generator)
    return images, torch.randint(2, (4,), generator=generator)


def iterate(model: nn.Module, wrapper: OptimWrapper, indices) -> None:
    for index in indices:
        images, targets = batch(index)
        with wrapper.optim_context(model):
            loss = nn.functional.cross_entropy(model(images), targets)
        wrapper.update_params(loss)


def saved(state: dict) -> dict:
    """Returns the state as a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_equal(left: nn.Module, right: nn.Module) -> None:
    for (name, ours), theirs in zip(left.named_parameters(), right.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def with_scaler(model: nn.Module, **arguments) -> OptimWrapper:
    """A wrapper as float16 on CUDA has it, its scaler on the CPU; the forward pass in float32."""
    wrapper = wrap(model, **arguments)
    wrapper._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    return wrapper


def test_float32_equals_a_plain_loop():
    model = network()
    plain = copy.deepcopy(model)
    optimizer = wrap(plain, groups=True).optimizer
    iterate(model, wrap(model, groups=True), range(LENGTH))
    for index in range(LENGTH):
        images, targets = batch(index)
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images), targets).backward()
        optimizer.step()
    assert_equal(model, plain)


@pytest.mark.parametrize("count", [2, 3])
def test_accumulation_equals_larger_batches(count):
    model = network().double()
    plain = copy.deepcopy(model)
    wrapper = wrap(model, accumulative_counts=count)
    wrapper.initialize_count_status(model, 0, LENGTH)
    optimizer = wrap(plain).optimizer
    for index in range(LENGTH):
        images, targets = batch(index)
        with wrapper.optim_context(model):
            loss = nn.functional.cross_entropy(model(images.double()), targets)
        wrapper.update_params(loss)
        done = index + 1
        assert wrapper.mid_accumulation == (done % count != 0 and done != LENGTH)
    for start in range(0, LENGTH, count):  # the last one is shorter
        batches = [batch(index) for index in range(start, min(start + count, LENGTH))]
        images = torch.cat([images for images, _ in batches]).double()
        targets = torch.cat([targets for _, targets in batches])
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images), targets).backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("amp", [False, "bfloat16"])
def test_ranks_synchronise_before_an_update_only(amp):
    class Wrapped(nn.Module):
        @contextmanager
        def no_sync(self):
            unsynchronised.append(index)
            yield

    unsynchronised = []
    model = network()
    wrapper = wrap(model, accumulative_counts=3, amp=amp)
    wrapper.initialize_count_status(model, 0, LENGTH)
    for index in range(LENGTH):
        with wrapper.optim_context(Wrapped()):
            loss = model(batch(index)[0]).sum()
        wrapper.update_params(loss)
    assert unsynchronised == [0, 1, 3, 4]


@pytest.mark.parametrize(
    "clip_grad",
    [
        {"max_norm": 0.1},
        {"max_norm": 100},
        {"type": "norm", "max_norm": 0.05, "norm_type": "inf"},
        {"type": "value", "clip_value": 0.01},
    ],
)
def test_clipping_equals_torchs(clip_grad):
    model = network()
    plain = copy.deepcopy(model)
    given = dict(clip_grad)
    wrapper = wrap(model, clip_grad=clip_grad)
    assert clip_grad == given
    optimizer = wrap(plain).optimizer
    iterate(model, wrapper, range(3))
    value = given.pop("type", "norm") == "value"
    for index in range(3):
        images, targets = batch(index)
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(images), targets).backward()
        clip = nn.utils.clip_grad_value_ if value else nn.utils.clip_grad_norm_
        norm = clip(plain.parameters(), **given)
        optimizer.step()
    assert_equal(model, plain)
    if not value:
        logged = wrapper.message_hub.get_scalar("train/grad_norm").current()
        assert logged == float(norm)


@pytest.mark.parametrize("amp", [True, "bfloat16"])
@pytest.mark.parametrize("count", [1, 2])
def test_bfloat16_on_a_cpu(amp, count, monkeypatch):
    monkeypatch.setattr(wrapper_module, "bf16_instructions", lambda: ["amx_bf16"])
    model = network()
    plain = copy.deepcopy(model)
    types = []
    model[0].register_forward_hook(lambda *arguments: types.append(arguments[2].dtype))
    wrapper = wrap(model, amp=amp, accumulative_counts=count, clip_grad={"max_norm": 0.5})
    iterate(model, wrapper, range(4))
    assert set(types) == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    model(batch(0)[0])
    assert types[-1] == torch.float32  # outside of training
    optimizer = wrap(plain).optimizer
    for index in range(4):
        images, targets = batch(index)
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(plain(images), targets)
        (loss / count).backward()
        if (index + 1) % count == 0:
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    assert_equal(model, plain)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 1}, {"type": "value", "clip_value": 1}])
def test_an_update_that_is_not_finite_is_skipped(bad, clip_grad, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        "aicore.engine.optimizers.wrapper.print_log", lambda text, **_: warnings.append(text)
    )
    model = network()
    wrapper = wrap(model, clip_grad=clip_grad)
    iterate(model, wrapper, range(3))
    weights = copy.deepcopy(model)
    state = copy.deepcopy(wrapper.optimizer.state_dict()["state"])
    assert len(state) == len(list(model.parameters()))
    for _ in range(5):
        # One parameter's alone: the others' gradients must not be applied either.
        loss = model[0].weight.sum() + (model[3].bias * torch.tensor([1.0, bad])).sum()
        wrapper.update_params(loss)
    assert_equal(model, weights)
    for index, values in wrapper.optimizer.state_dict()["state"].items():
        assert torch.equal(values["momentum_buffer"], state[index]["momentum_buffer"])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert wrapper.skipped_updates == 5
    assert [text.split("skipped, ")[1][:1] for text in warnings] == ["1", "2", "4"]
    assert "iteration 4 are infinite or NaN" in warnings[0]
    iterate(model, wrapper, [3])
    assert not torch.equal(model[0].weight, weights[0].weight)
    assert wrapper.skipped_updates == 5


def test_one_bad_iteration_drops_its_whole_accumulation():
    model = network()
    wrapper = wrap(model, accumulative_counts=2)
    weights = copy.deepcopy(model)
    wrapper.update_params(model[0].weight.sum() * math.nan)
    iterate(model, wrapper, [0])
    assert_equal(model, weights)
    iterate(model, wrapper, [1, 2])
    other = wrap(weights, accumulative_counts=2)
    iterate(weights, other, [1, 2])
    assert_equal(model, weights)


@pytest.mark.parametrize("make", [wrap, with_scaler])
@pytest.mark.parametrize("amp", [False, "bfloat16"])
@pytest.mark.parametrize("stop", range(LENGTH + 1))
def test_resumes_amid_an_accumulation_to_the_last_bit(make, amp, stop):
    def start(begin, checkpoint=None):
        model = network().to(memory_format=torch.channels_last)
        wrapper = make(model, groups=True, accumulative_counts=3, amp=amp)
        if checkpoint:
            model.load_state_dict(checkpoint["state_dict"])
            wrapper.load_state_dict(checkpoint["optimizer"])
        wrapper.initialize_count_status(model, begin, LENGTH)
        return model, wrapper

    model, wrapper = start(0)
    iterate(model, wrapper, range(stop))
    state = {"state_dict": model.state_dict(), "optimizer": wrapper.state_dict()}
    assert ("pending" in state["optimizer"]) == (stop in (1, 2, 4, 5))
    checkpoint = saved(state)
    keys = set(checkpoint["optimizer"])
    resumed, resumed_wrapper = start(stop, checkpoint)
    assert set(checkpoint["optimizer"]) == keys  # the caller's dict stays whole
    for training in ((model, wrapper), (resumed, resumed_wrapper)):
        iterate(*training, range(stop, LENGTH))
    assert_equal(model, resumed)
    if make is with_scaler:
        assert wrapper._scaler.state_dict() == resumed_wrapper._scaler.state_dict()


def test_restored_gradients_are_a_copy():
    model = network()
    wrapper = wrap(model, accumulative_counts=3)
    iterate(model, wrapper, [0])
    checkpoint = saved(wrapper.state_dict())
    before = checkpoint["pending"]["gradients"][0].clone()
    resumed = wrap(network(), accumulative_counts=3)
    resumed.load_state_dict(checkpoint)
    next(resumed._parameters()).grad.zero_()
    assert torch.equal(checkpoint["pending"]["gradients"][0], before)


def test_mmengines_warning_of_lost_gradients(monkeypatch):
    warnings = []
    monkeypatch.setattr(
        "mmengine.optim.optimizer.optimizer_wrapper.print_log",
        lambda text, **_: warnings.append(text),
    )
    model = network()
    wrapper = wrap(model, accumulative_counts=3)
    wrapper.initialize_count_status(model, 4, LENGTH)
    assert len(warnings) == 1
    assert wrapper.inner_count == 4
    model[0].weight.grad = torch.ones_like(model[0].weight)
    wrapper.initialize_count_status(model, 4, LENGTH)
    assert len(warnings) == 1
    assert wrapper.inner_count == 4


def test_gradients_of_another_accumulation_are_left_out():
    model = network()
    wrapper = wrap(model, accumulative_counts=3)
    iterate(model, wrapper, [0])
    resumed = wrap(network(), accumulative_counts=2)
    resumed.load_state_dict(wrapper.state_dict())
    assert all(parameter.grad is None for parameter in resumed._parameters())


@pytest.mark.parametrize(("first", "second"), [(wrap, with_scaler), (with_scaler, wrap)])
def test_precision_may_change_between_runs(first, second):
    """Float32 resumed with a loss scaler, and the reverse, amid an accumulation."""
    model, reference = network(), network()
    wrapper = first(model, accumulative_counts=4)
    iterate(model, wrapper, range(6))
    resumed = network()
    resumed.load_state_dict(model.state_dict())
    resumed_wrapper = second(resumed, accumulative_counts=4)
    resumed_wrapper.load_state_dict(saved(wrapper.state_dict()))
    resumed_wrapper.initialize_count_status(resumed, 6, 8)
    iterate(resumed, resumed_wrapper, range(6, 8))
    iterate(reference, wrap(reference, accumulative_counts=4), range(8))
    # Scales are powers of two: they change no bit.
    assert_equal(resumed, reference)


def test_a_scaler_skips_and_lowers_its_scale():
    model = network()
    wrapper = with_scaler(model, clip_grad={"max_norm": 0.1})
    plain = copy.deepcopy(model)
    wrapper.update_params(model[0].weight.sum() * math.inf)
    assert_equal(model, plain)
    assert wrapper._scaler.get_scale() == 2.0**9
    assert wrapper.skipped_updates == 0
    # Clipping sees gradients without the scale.
    iterate(model, wrapper, range(2))
    iterate(plain, wrap(plain, clip_grad={"max_norm": 0.1}), range(2))
    assert_equal(model, plain)


def test_states_of_mmengines_wrappers_load():
    model = network()
    iterate(model, wrapper := PlainWrapper(wrap(model).optimizer), range(2))
    ours = wrap(network())
    ours.load_state_dict(saved(wrapper.state_dict()))
    left, right = ours.optimizer.state_dict(), wrapper.optimizer.state_dict()
    assert left["param_groups"] == right["param_groups"]
    assert left["state"].keys() == right["state"].keys() != set()
    for index, values in right["state"].items():
        assert torch.equal(left["state"][index]["momentum_buffer"], values["momentum_buffer"])


def test_a_state_of_other_groups_is_a_sentence():
    state = wrap(network(), groups=True).state_dict()
    with pytest.raises(CheckpointError, match="other parameter groups than those of the config"):
        wrap(network()).load_state_dict(state)


def test_gradients_are_averaged_over_ranks(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "aicore.engine.optimizers.wrapper.all_reduce_params",
        lambda tensors, op: calls.append((len(tensors), op)),
    )
    model = network()
    wrapper = wrap(model, accumulative_counts=2)
    wrapper.synchronise()
    iterate(model, wrapper, [0])
    wrapper.synchronise()
    iterate(model, wrapper, [1])
    wrapper.synchronise()
    assert calls == [(4, "mean")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"amp": "fp16"}, r"amp='fp16', expected False, True, 'bfloat16' or 'float16'"),
        ({"amp": 1.5}, r"amp=1\.5, expected"),
        ({"amp": "float16"}, r"'float16' needs a CUDA device, the model is on 'cpu'"),
        ({"accumulative_counts": 0}, r"accumulative_counts=0, expected an integer"),
        ({"accumulative_counts": "2"}, r"accumulative_counts='2', expected an integer"),
        ({"clip_grad": 1.0}, r"clip_grad=1\.0, expected a dict"),
        ({"clip_grad": {}}, r"max_norm is missing"),
        ({"clip_grad": {"maxnorm": 1}}, r"clip_grad\.maxnorm is not known\. Did you mean 'max_n"),
        ({"clip_grad": {"type": "valu", "x": 1}}, r"type='valu', expected 'norm' or 'value'"),
        ({"clip_grad": {"type": "value", "max_norm": 1}}, r"max_norm is not known.*clip_value"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ConfigError, match=message):
        wrap(network(), **arguments)


def test_the_best_precision_of_a_gpu(monkeypatch):
    for native, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native
        )
        assert wrapper_module.autocast_dtype(True, "cuda") == expected
    assert wrapper_module.autocast_dtype("float16", "cuda") == torch.float16
    assert wrapper_module.autocast_dtype(False, "cuda") is None


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [(["avx512_bf16"], torch.bfloat16), ([], None), (None, torch.bfloat16)],
)
def test_the_best_precision_of_a_cpu(monkeypatch, instructions, expected):
    monkeypatch.setattr(wrapper_module, "bf16_instructions", lambda: instructions)

    assert wrapper_module.autocast_dtype(True, "cpu") == expected
    assert wrapper_module.autocast_dtype("bfloat16", "cpu") == torch.bfloat16


def test_from_a_config():
    optimizer = wrap(network()).optimizer
    config = {"type": "aicore.OptimWrapper", "amp": "bfloat16", "accumulative_counts": 2}
    wrapper = OPTIM_WRAPPERS.build(config, default_args={"optimizer": optimizer})
    assert isinstance(wrapper, OptimWrapper)
    assert wrapper.dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 needs a CUDA device")
def test_float16_on_cuda():
    model = network().cuda()
    wrapper = wrap(model, amp="float16", clip_grad={"max_norm": 1})
    types = []
    model[0].register_forward_hook(lambda *arguments: types.append(arguments[2].dtype))
    for index in range(3):
        images, targets = (value.cuda() for value in batch(index))
        with wrapper.optim_context(model):
            loss = nn.functional.cross_entropy(model(images), targets)
        wrapper.update_params(loss)
    assert set(types) == {torch.float16}
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    theirs = AmpOptimWrapper(optimizer=wrap(network().cuda()).optimizer, dtype="float16")
    theirs.load_state_dict(saved(wrapper.state_dict()))
    assert theirs.loss_scaler.get_scale() == wrapper._scaler.get_scale()


@pytest.mark.parametrize("moment", [torch.zeros(3), 3])
def test_a_moment_of_another_shape_is_refused(moment):
    model = nn.Linear(4, 2)
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), fused=True))
    wrapper.update_params(model(torch.ones(1, 4)).sum())
    state = saved(wrapper.state_dict())
    state["state"][0]["exp_avg"] = moment

    with pytest.raises(CheckpointError, match=r"exp_avg of a weight of shape \(2, 4\) is"):
        wrapper.load_state_dict(state)
