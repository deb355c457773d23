from __future__ import annotations

import hashlib
import json
import os
import resource

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from aicore import apis
from aicore.apis.publish import publish_model
from aicore.engine.checkpoint import checkpoint_classes, read_checkpoint
from aicore.errors import CheckpointError, ConfigError
from aicore.version import __version__

TOOL = "tools/misc/publish_model.py"


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key])
        for key in first
    )


def test_keeps_weights_and_classes_and_leaves_the_optimiser(trained, call_tool, tmp_path):
    file = tmp_path / "new" / "model.safetensors"

    done = call_tool(TOOL, trained.last_checkpoint, "--out", file)

    assert done.returncode == 0
    assert str(file) in done.stdout
    before, after = read_checkpoint(trained.last_checkpoint), read_checkpoint(file)
    assert equal(before["state_dict"], after["state_dict"])
    assert checkpoint_classes(after) == ("bright", "dark", "striped")
    assert after["meta"]["epoch"] == 3
    assert after["meta"]["iter"] == 9
    for key in ("model", "input_settings"):
        assert json.dumps(after["meta"][key]) == json.dumps(before["meta"][key])
    assert after["meta"]["aicore_version"] == __version__
    assert "optimizer" in before
    assert after.keys() == {"state_dict", "meta"}
    assert file.stat().st_size < 0.4 * trained.last_checkpoint.stat().st_size
    assert [path.name for path in file.parent.iterdir()] == ["model.safetensors"]


def test_every_metadata_text_is_json(trained, tmp_path):
    file = publish_model(trained.checkpoint, tmp_path / "model.safetensors")

    with safe_open(file, framework="pt") as opened:
        texts = opened.metadata()

    assert json.loads(texts["dataset_meta"])["classes"] == ["bright", "dark", "striped"]
    assert {type(json.loads(text)) for text in texts.values()} == {dict, int, str}


def test_no_paths_and_no_secrets_are_published(small_config, tmp_path, monkeypatch):
    monkeypatch.setenv("PASSWORD_OF_MINE", "hunter2")
    config = small_config()
    with config.open("a", encoding="utf-8") as stream:
        stream.write("import os\npassword = os.environ['PASSWORD_OF_MINE']\ndel os\n")
    work_dir = tmp_path / "run"
    apis.train(config, work_dir=work_dir)
    checkpoint = work_dir / "epoch_1.pth"
    assert b"hunter2" in checkpoint.read_bytes()

    content = publish_model(checkpoint).read_bytes()

    assert b"hunter2" not in content
    assert str(tmp_path.parent).encode() not in content
    assert b"white_level" in content


def test_name_and_metadata_hold_the_hash_of_the_weights(tmp_path):
    checkpoint = tmp_path / "best.pth"
    torch.save({"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}, checkpoint)

    file = publish_model(checkpoint)

    weights = safetensors.torch.load_file(file)
    digest = hashlib.sha256(safetensors.torch.save(weights)).hexdigest()
    assert file == tmp_path / f"best-{digest[:8]}.safetensors"
    assert read_checkpoint(file)["meta"]["weights_sha256"] == digest
    assert file.stat().st_mode == checkpoint.stat().st_mode  # others may read it too
    assert publish_model(checkpoint) == file  # the same weights, the same name
    torch.save({"b": torch.zeros(2, 3), "a": torch.ones(2)}, checkpoint)
    assert publish_model(checkpoint) != file


def test_gives_the_same_results_in_test_and_demo(trained, tmp_path):
    file = publish_model(trained.checkpoint, tmp_path / "model.safetensors")
    image = trained.data_root / "val" / "dark" / "dark_0.png"
    checkpoints = (trained.checkpoint, file)

    metrics = [apis.test(trained.config, c, tmp_path / c.stem) for c in checkpoints]
    records = [apis.infer(trained.config, c, [image], tmp_path / c.stem) for c in checkpoints]

    assert metrics[0] == metrics[1]
    assert records[0] == records[1]
    assert records[1][0]["pred_scores"].keys() == {"bright", "dark", "striped"}


def test_weights_that_share_memory_or_are_not_contiguous(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    weights = {"encoder": tied, "decoder": tied, "turned": tied.T, "part": tied[:, 1]}
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "tied.pth")

    file = publish_model(tmp_path / "tied.pth")

    assert equal(read_checkpoint(file)["state_dict"], weights)


def test_metadata_of_numpy_and_torch_values(tmp_path):
    meta = {"dataset_meta": {"classes": ("a",), "palette": torch.tensor([[1, 2, 3]])}}
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": meta}, tmp_path / "model.pth")

    file = publish_model(tmp_path / "model.pth")

    assert read_checkpoint(file)["meta"]["dataset_meta"]["palette"] == [[1, 2, 3]]


class RunsCode:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("wrong", ["missing", "truncated", "runs code"])
def test_bad_checkpoint_ends_with_one_sentence(call_tool, tmp_path, wrong):
    checkpoint, proof = tmp_path / "bad.pth", tmp_path / "proof"
    content = {"state_dict": {"w": torch.ones(1000)}}
    if wrong == "runs code":
        content["meta"] = RunsCode()
        content["meta"].folder = str(proof)
    if wrong != "missing":
        torch.save(content, checkpoint)
    if wrong == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:2000])

    done = call_tool(TOOL, checkpoint)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert str(checkpoint) in done.stderr
    assert done.stderr.count("\n") == 1
    reason = {"missing": "does not exist", "truncated": "broken", "runs code": "could run code"}
    assert reason[wrong] in done.stderr
    assert not proof.exists()
    assert not list(tmp_path.glob("*.safetensors"))


def test_weight_that_is_no_tensor(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(1), "note": "text"}}, tmp_path / "model.pth")

    with pytest.raises(
        CheckpointError, match=r"state_dict: 'note' is 'text', expected a plain tensor"
    ):
        publish_model(tmp_path / "model.pth")


def test_another_suffix_is_refused_before_the_work(tmp_path):
    with pytest.raises(ConfigError, match=r"has to end in \.safetensors"):
        publish_model(tmp_path / "missing.pth", tmp_path / "model.pth")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    checkpoint, file = tmp_path / "model.pth", tmp_path / "model.safetensors"
    torch.save({"w": torch.ones(1)}, checkpoint)
    publish_model(checkpoint, file)
    before = file.read_bytes()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # as a full disk
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written: .*File too large"):
            publish_model(checkpoint, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pth", "model.safetensors"]
