from __future__ import annotations

import random
import zipfile

import pytest
import torch

from aicore.apis.publish import publish_model
from aicore.engine.checkpoint import read_checkpoint
from aicore.errors import BrokenCheckpointError

WEIGHTS = {"weight": torch.arange(600.0).reshape(20, 30), "bias": torch.ones(20)}
META = {"epoch": 1, "dataset_meta": {"classes": ("good", "scratch")}}


@pytest.fixture(params=[".pth", ".safetensors"])
def file(tmp_path, request):
    """A checkpoint of a training, and a published one."""
    path = tmp_path / "a.pth"
    torch.save({"state_dict": WEIGHTS, "meta": META}, path)
    return path if request.param == ".pth" else publish_model(path, tmp_path / "a.safetensors")


def is_same(first: dict, second: dict) -> bool:
    return all(first["meta"][key] == second["meta"][key] for key in META) and all(
        torch.equal(first["state_dict"][key], second["state_dict"][key]) for key in WEIGHTS
    )


def is_told(path, content: bytes, good: dict) -> bool:
    """Whether a file of that content is refused; else it has to hold what the good one holds."""
    path.write_bytes(content)
    try:
        assert is_same(read_checkpoint(path), good)
    except BrokenCheckpointError:
        return True
    return False


def test_a_flipped_bit_is_told_or_does_no_harm(file):
    good, data = read_checkpoint(file), file.read_bytes()
    generator = random.Random(0)
    told = 0
    for _ in range(300):
        flipped = bytearray(data)
        flipped[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        told += is_told(file, bytes(flipped), good)

    assert told > 200


@pytest.mark.parametrize("kind", ["weights", "names"])
def test_a_flipped_bit_of_the_content_is_named(file, kind):
    data = file.read_bytes()
    part = WEIGHTS["weight"].numpy().tobytes() if kind == "weights" else b"scratch"
    place = data.index(part) + len(part) - 1
    file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])

    with pytest.raises(BrokenCheckpointError, match=r"is damaged: its .*checksum.*Copy"):
        read_checkpoint(file)


def test_a_zeroed_sector_is_told(file):
    good, data = read_checkpoint(file), file.read_bytes()
    for start in range(0, len(data), 512):
        zeroed = data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :]
        if zeroed != data:
            assert is_told(file, zeroed, good)


def rewritten(path, compression: int, count: int = 1) -> None:
    """Writes an archive anew, its records packed or several times over."""
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in parts.items():
            target.writestr(name, data * count)


def test_a_record_that_became_a_folder_is_told(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": WEIGHTS}, path)
    data = bytearray(path.read_bytes())
    # Of the record's entry in the table at the end, the attributes stand 8 bytes before the name.
    data[data.rindex(b"a/data/0") - 8] ^= 0x10
    path.write_bytes(data)

    with pytest.raises(BrokenCheckpointError, match=r"is damaged: its record 'a/data/0'"):
        read_checkpoint(path)


def test_packed_records_are_not_unpacked(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"weight": torch.zeros(100_000)}, path)
    rewritten(path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000

    with pytest.raises(
        BrokenCheckpointError, match=r"is packed or damaged: .* would fill 0\.0004 GB"
    ):
        read_checkpoint(path)


def test_records_that_share_their_bytes_are_packed_too(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"weight": torch.zeros(100_000)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        large = max(archive.infolist(), key=lambda record: record.file_size)
        archive.filelist += [large] * 100
        archive._didModify = True

    with pytest.raises(BrokenCheckpointError, match=r"is packed"):
        read_checkpoint(path)


def test_metadata_of_others_is_not_compared(tmp_path):
    from safetensors.torch import save_file

    save_file(WEIGHTS, tmp_path / "a.safetensors", {"format": "pt"})

    assert read_checkpoint(tmp_path / "a.safetensors")["meta"] == {"format": "pt"}
