from __future__ import annotations

import json
import os
import pickle
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from torch import nn

from aicore.engine.checkpoint import (
    checkpoint_classes,
    inference_weights,
    read_checkpoint,
)
from aicore.errors import CheckpointError


@pytest.fixture
def weights():
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


def saved(path: Path, content, **settings) -> Path:
    torch.save(content, path, **settings)
    return path


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# ---- what can be read ----


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bare_state_dict(tmp_path, weights, zipped):
    path = saved(tmp_path / "a.pth", weights, _use_new_zipfile_serialization=zipped)

    checkpoint = read_checkpoint(path)

    assert equal(checkpoint["state_dict"], weights)
    assert checkpoint["meta"] == {}


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_under_a_key(tmp_path, weights, key):
    path = saved(tmp_path / "a.pth", {key: weights, "epoch": 3, "meta": {"classes": 1}})

    checkpoint = read_checkpoint(str(path))

    assert equal(checkpoint["state_dict"], weights)
    assert checkpoint["epoch"] == 3
    assert checkpoint["meta"] == {"classes": 1}


def test_state_dict_comes_before_model(tmp_path, weights):
    other = {"weight": torch.zeros(1)}
    path = saved(tmp_path / "a.pth", {"model": other, "state_dict": weights})

    assert equal(read_checkpoint(path)["state_dict"], weights)


def test_meta_of_none(tmp_path, weights):
    path = saved(tmp_path / "a.pth", {"state_dict": weights, "meta": None})

    assert checkpoint_classes(read_checkpoint(path)) is None


def test_safetensors_of_ours(tmp_path, weights):
    texts = {"dataset_meta": json.dumps({"classes": ["a", "b"]}), "epoch": "3"}
    save_file(weights, tmp_path / "a.safetensors", texts)

    checkpoint = read_checkpoint(tmp_path / "a.safetensors")

    assert equal(checkpoint["state_dict"], weights)
    assert checkpoint["meta"] == {"dataset_meta": {"classes": ["a", "b"]}, "epoch": 3}
    assert checkpoint_classes(checkpoint) == ("a", "b")


@pytest.mark.parametrize("texts", [None, {"format": "pt"}])
def test_safetensors_of_others(tmp_path, weights, texts):
    save_file(weights, tmp_path / "a.safetensors", texts)

    checkpoint = read_checkpoint(tmp_path / "a.safetensors")

    assert equal(checkpoint["state_dict"], weights)
    assert checkpoint["meta"] == (texts or {})


def test_the_home_folder(tmp_path, weights, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    saved(tmp_path / "a.pth", weights)

    assert equal(read_checkpoint("~/a.pth")["state_dict"], weights)


def test_mmengines_log_buffers(tmp_path, weights):
    buffer = HistoryBuffer([1.0, 2.0, 6.0], [1, 1, 1])
    scalars = {"epoch": np.int64(3), "share": np.float32(0.5), "right": np.bool_(True)}
    path = saved(tmp_path / "a.pth", {"state_dict": weights, "loss": buffer, "scalars": scalars})

    checkpoint = read_checkpoint(path)

    assert checkpoint["loss"].mean() == 3.0
    assert checkpoint["loss"].current() == 6.0
    assert checkpoint["scalars"] == scalars


def test_arrays_of_every_number_type(tmp_path, weights):
    kinds = ["bool", "uint8", "int8", "int16", "uint16", "int32", "int64", "float16", "float64"]
    arrays = {kind: np.ones((2, 3), kind) for kind in kinds}
    path = saved(tmp_path / "a.pth", {"state_dict": weights, "arrays": arrays})

    read = read_checkpoint(path)["arrays"]

    assert all(read[kind].dtype == kind for kind in kinds)
    assert all(np.array_equal(read[kind], arrays[kind]) for kind in kinds)


def test_arrays_written_with_numpy_1(tmp_path, weights):
    content = {"state_dict": weights, "array": np.arange(3), "scalar": np.float64(2)}
    new = saved(tmp_path / "new.pth", content)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(tmp_path / "old.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"numpy._core", b"numpy.core"))

    checkpoint = read_checkpoint(tmp_path / "old.pth")

    assert checkpoint["array"].tolist() == [0, 1, 2]
    assert checkpoint["scalar"] == 2


def test_a_training_of_ours_with_its_optimiser(trained):
    checkpoint = read_checkpoint(trained.last_checkpoint)

    assert {"optimizer", "param_schedulers", "message_hub"} <= checkpoint.keys()
    assert checkpoint["meta"]["epoch"] == 3
    assert checkpoint_classes(checkpoint) == ("bright", "dark", "striped")


# ---- what cannot ----


def refused(path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's would stand beside the sentence
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"checkpoint {str(path)!r} ")
    assert "\n" not in message
    assert "weights_only" not in message  # torch's advice to load unsafe files all the same
    return message


def test_a_missing_file(tmp_path):
    assert "does not exist" in refused(tmp_path / "a.pth")


def test_a_folder(tmp_path):
    assert "is a folder, not a file" in refused(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_file(tmp_path, weights, share, zipped):
    path = saved(tmp_path / "a.pth", weights, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    message = refused(path)

    assert f"({int(len(data) * share)} bytes)" in message
    assert "broken or not a checkpoint" in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"garbage",
        b"hello world\n",
        b"# settings\nlr: 0.1\n",
        b"<html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"\x89PNG\r\n\x1a\n",
        b"PK but no zip",
        b"\x80\x02 but no pickle",
        pickle.dumps({"a": 1}, protocol=2),
        pickle.dumps({"a": 1}, protocol=4),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)

    assert "it is broken or not a checkpoint" in refused(path)


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02"])
def test_damage_of_any_kind_is_a_sentence(tmp_path, start):
    generator = random.Random(0)
    path = tmp_path / "a.pth"
    for _ in range(100):
        path.write_bytes(start + generator.randbytes(generator.randrange(60)))
        assert "cannot be read" in refused(path)


def test_damage_inside_the_archive(tmp_path, weights):
    generator = random.Random(0)
    path = saved(tmp_path / "a.pth", {"state_dict": weights, "meta": {"classes": ["a", "b"]}})
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    name = next(name for name in parts if name.endswith("data.pkl"))
    read = 0
    for _ in range(100):
        broken = bytearray(parts[name])
        broken[generator.randrange(len(broken))] = generator.randrange(256)
        with zipfile.ZipFile(path, "w") as target:
            for part, data in {**parts, name: bytes(broken)}.items():
                target.writestr(part, data)
        try:
            read_checkpoint(path)
            read += 1
        except CheckpointError:
            continue
    assert read < 100


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x08\0\0\0\0\0\0\0{}      "])
def test_safetensors_that_are_none(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)

    if content.endswith(b"{}      "):
        assert read_checkpoint(path) == {"state_dict": {}, "meta": {}}
    else:
        assert "broken or not a checkpoint" in refused(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, "text", {"state_dict": 3}, None])
def test_a_file_without_weights(tmp_path, content):
    message = refused(saved(tmp_path / "a.pth", content))

    assert "holds no weights: expected a dict of tensors" in message


# ---- what could run code ----


class Runs:
    """Creates a file when it is unpickled by the ordinary unpickler."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Gets:
    def __init__(self, owner: type, name: str) -> None:
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_has_not_run(tmp_path, weights, zipped):
    content = {"state_dict": weights, "extra": Runs(tmp_path / "ran")}
    path = saved(tmp_path / "a.pth", content, _use_new_zipfile_serialization=zipped)

    message = refused(path)

    assert not (tmp_path / "ran").exists()
    assert "holds more than weights and is not loaded, since that could run code" in message
    assert f"it names {os.mkdir.__module__}.mkdir." in message
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()  # so the file is what it is meant to be


def test_a_whole_model_is_refused(tmp_path):
    message = refused(saved(tmp_path / "a.pth", nn.Linear(2, 2)))

    assert "it names torch.nn.modules.linear.Linear." in message


@pytest.mark.parametrize(("owner", "name"), [(str, "format"), (HistoryBuffer, "__init__")])
def test_getattr_serves_the_methods_of_log_buffers_only(tmp_path, weights, owner, name):
    content = {"state_dict": weights, "x": Gets(owner, name)}

    assert "could run code" in refused(saved(tmp_path / "a.pth", content))


# ---- MMEngine's own ways to a checkpoint ----


def test_mmengine_reads_a_file_as_safely(tmp_path, weights):
    path = saved(tmp_path / "a.pth", {"state_dict": weights, "extra": Runs(tmp_path / "ran")})

    with pytest.raises(CheckpointError, match="could run code"):
        CheckpointLoader.load_checkpoint(str(path))

    assert not (tmp_path / "ran").exists()
    plain = saved(tmp_path / "b.pth", {"state_dict": weights})
    assert equal(CheckpointLoader.load_checkpoint(str(plain))["state_dict"], weights)


@pytest.mark.parametrize(
    "name", ["https://a.b/c.pth", "torchvision://resnet18", "openmmlab://x", "mmcls://x"]
)
def test_mmengine_fetches_nothing(name):
    with pytest.raises(CheckpointError, match=r"is not on this machine.*give its path"):
        CheckpointLoader.load_checkpoint(name)


# ---- averaged weights ----


def test_weights_for_inference_are_the_averaged_ones_where_the_file_says_so(tmp_path, weights):
    averaged = {key: weight + 1 for key, weight in weights.items()}
    content = {
        "state_dict": weights,
        "ema_state_dict": averaged,
        "meta": {"inference_weights": "ema_state_dict"},
    }

    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", content))

    assert equal(inference_weights(checkpoint), averaged)
    assert equal(checkpoint["state_dict"], weights)


def test_else_they_are_the_only_ones(tmp_path, weights):
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", {"state_dict": weights}))

    assert equal(inference_weights(checkpoint), weights)


def test_mmengines_exchange_of_both_is_undone(tmp_path, weights):
    averaged = {key: weight + 1 for key, weight in weights.items()}
    raw = {f"module.{key}": weight for key, weight in weights.items()}
    content = {"state_dict": averaged, "ema_state_dict": {"steps": torch.tensor(3), **raw}}

    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", content))

    assert equal(inference_weights(checkpoint), averaged)
    assert equal(checkpoint["state_dict"], weights)
