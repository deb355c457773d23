"""--amp, --channels-last, --compile and the averaged weights together, also over a resume."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import torch

from aicore.apis import test as run_test
from aicore.apis import train
from aicore.apis.setup import build_runner, open_config
from aicore.engine.checkpoint import inference_weights, read_checkpoint
from aicore.errors import ConfigError
from tests.conftest import REPOSITORY

# Compiled in full it takes a minute; the eager backend traces the same parts of the model.
COMPILE = dict(_delete_=True, backend="eager")
SWITCHES = dict(amp="bfloat16", channels_last=True, compile=COMPILE, ema=True)


def four_dimensional(state: dict) -> list[torch.Tensor]:
    """Returns the weights whose layout can differ: 1x1 kernels are alike in both."""
    return [w for w in state.values() if w.dim() == 4 and w.size(1) > 1 and w.size(-1) > 1]


def is_channels_last(tensors: list[torch.Tensor]) -> bool:
    return bool(tensors) and all(
        tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors
    )


@pytest.fixture(scope="module")
def whole(leaf_config, tmp_path_factory):
    """The work dir of two epochs with all switches."""
    work_dir = tmp_path_factory.mktemp("whole")
    options = dict(model_name="test_resnet.r160_in1k", max_epochs=2, **SWITCHES)
    train(leaf_config, work_dir=work_dir, options=options)
    return work_dir


def test_a_resumed_training_is_the_same(whole, leaf_config, tmp_path):
    shutil.copy(whole / "epoch_1.pth", tmp_path)
    options = dict(model_name="test_resnet.r160_in1k", max_epochs=2, **SWITCHES)

    runner = train(leaf_config, work_dir=tmp_path, resume=True, options=options)

    expected, resumed = (read_checkpoint(d / "epoch_2.pth") for d in (whole, tmp_path))
    for state in ("state_dict", "ema_state_dict"):
        assert expected[state].keys() == resumed[state].keys()
        assert all(torch.equal(w, resumed[state][key]) for key, w in expected[state].items())
    assert is_channels_last(four_dimensional(runner.model.state_dict()))
    moments = [
        value
        for state in runner.optim_wrapper.optimizer.state.values()
        for value in state.values()
        if value.dim() == 4 and value.size(1) > 1 and value.size(-1) > 1
    ]
    assert is_channels_last(moments)


def test_the_checkpoint_has_the_names_of_a_plain_training(whole, small_config, tmp_path):
    train(small_config(), work_dir=tmp_path / "plain")

    plain = read_checkpoint(tmp_path / "plain" / "epoch_1.pth")["state_dict"]
    checkpoint = read_checkpoint(whole / "epoch_2.pth")
    assert checkpoint["state_dict"].keys() == checkpoint["ema_state_dict"].keys() == plain.keys()


def test_the_validation_has_the_figures_of_a_test_without_any_switch(whole, leaf_config, tmp_path):
    checkpoint = read_checkpoint(whole / "epoch_2.pth")
    (best,) = whole.glob("best_*.pth")
    options = dict(model_name="test_resnet.r160_in1k")

    metrics = run_test(leaf_config, best, out=tmp_path, options=options)

    info = checkpoint["message_hub"]["runtime_info"]
    assert metrics["accuracy/top1"] == pytest.approx(info["best_score"])


def test_the_averaged_weights_are_those_for_inference(whole):
    checkpoint = read_checkpoint(whole / "epoch_2.pth")

    averaged, raw = inference_weights(checkpoint), checkpoint["state_dict"]
    assert averaged is checkpoint["ema_state_dict"]
    assert any(not torch.equal(averaged[key], raw[key]) for key in raw)


def test_parts_are_compiled_for_the_training_only(small_config, tmp_path):
    graphs: list[bool] = []

    def backend(graph, inputs):
        graphs.append(torch.is_grad_enabled())
        return graph.forward

    config = open_config(small_config())
    config.work_dir = str(tmp_path / "run")
    config.compile = dict(backend=backend)
    torch.compiler.reset()
    build_runner(config).train()

    assert graphs
    assert all(graphs)
    assert torch.compiler.is_compiling() is False


def test_without_a_compiler_there_is_a_sentence(small_config, tmp_path, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no g++ here")

    config = open_config(small_config())
    config.work_dir = str(tmp_path / "run")
    config.compile = dict(backend=backend)
    torch.compiler.reset()

    with pytest.raises(ConfigError, match=r"compile = True: .*no g\+\+ here.*needs a C\+\+"):
        build_runner(config).train()


def test_float16_needs_cuda(small_config, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    with pytest.raises(ConfigError, match=r"float16.*needs a CUDA device"):
        train(small_config(), work_dir=tmp_path / "run", options={"amp": "float16"})


@pytest.mark.slow
def test_in_two_processes(small_config, tmp_path):
    config = small_config(compile=COMPILE, ema=True)
    arguments = ["--amp", "bfloat16", "--channels-last", "--work-dir", tmp_path / "run"]

    done = subprocess.run(
        ["tools/dist_train.sh", config, "2", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    checkpoint = read_checkpoint(tmp_path / "run" / "epoch_1.pth")
    assert checkpoint["ema_state_dict"].keys() == checkpoint["state_dict"].keys()
    assert all(torch.isfinite(w).all() for w in checkpoint["ema_state_dict"].values())
    assert is_channels_last(four_dimensional(checkpoint["state_dict"]))
