from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aicore.apis import infer
from aicore.apis.infer import _unique_names
from aicore.apis.setup import build_runner, default_work_dir, open_config
from aicore.engine.inferencer import Inferencer
from aicore.errors import CheckpointError, ConfigError, DataError
from aicore.registry import TASKS
from aicore.runtime.videos import Video, VideoWriter


@pytest.fixture
def images(trained, tmp_path):
    """A folder with an image, one of the same name below it, and a broken one."""
    folder = tmp_path / "parts"
    (folder / "more").mkdir(parents=True)
    source = trained.data_root / "val"
    shutil.copy(source / "dark" / "dark_0.png", folder / "a.png")
    shutil.copy(source / "striped" / "striped_0.png", folder / "more" / "a.png")
    (folder / "broken.png").write_bytes(b"no image")
    cv2.imwrite(str(folder / "wide.jpg"), np.full((40, 90), 200, np.uint8))
    return folder


def test_what_is_no_image_is_told(trained, images, tmp_path, capsys):
    (images / "more/b.gif").touch()
    (images / "notes.txt").touch()
    os.mkfifo(images / "pipe.png")

    records = infer(trained.config, trained.checkpoint, images, out=tmp_path / "out", device="cpu")

    assert len(records) == 4
    warning = f"warning: 1 file is no image (.gif 1); {str(images / 'pipe.png')!r} is a named pipe"
    assert warning in capsys.readouterr().err
    with pytest.raises(DataError, match=r"No image in .*1 files were found.*\(1 file is no image"):
        infer(trained.config, trained.checkpoint, images / "more/*.gif", out=tmp_path / "out")


def test_pictures_and_records_of_a_folder(trained, images, tmp_path):
    out = tmp_path / "new" / "out"

    records = infer(trained.config, trained.checkpoint, [images], out=out, device="cpu")

    assert json.loads((out / "predictions.json").read_text(encoding="utf-8")) == records
    assert [Path(record["image"]).name for record in records] == [
        "a.png",
        "broken.png",
        "a.png",
        "wide.jpg",
    ]
    assert [record["inspected"] for record in records] == [True, False, True, True]
    assert (
        records[1]["reason"] == "it is not an image; expected jpg, png, bmp, tif, webp, pgm or ppm"
    )
    assert "truth" not in records[0]
    pictures = {file.name for file in out.glob("*.png")}
    assert pictures == {"parts_a.png", "more_a.png", "wide.png"}
    wide = cv2.imread(str(out / "wide.png"))
    assert wide.shape[1] == 90
    assert wide.shape[0] > 40
    original = cv2.imread(str(images / "a.png"))
    assert np.array_equal(cv2.imread(str(out / "parts_a.png"))[:32], original)


def test_activation_maps(trained, images, tmp_path):
    files = [str(images / "*.png"), images / "wide.jpg"]

    infer(trained.config, trained.checkpoint, files, out=tmp_path / "out", cam=True, device="cpu")

    maps = {file.name: cv2.imread(str(file)) for file in (tmp_path / "out").glob("*_cam.png")}
    assert {name: map.shape for name, map in maps.items()} == {
        "a_cam.png": (32, 32, 3),
        "wide_cam.png": (40, 90, 3),
    }


def test_a_sixteen_bit_picture_can_be_seen(trained, tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((32, 32), 40000, np.uint16))
    out = tmp_path / "out"

    infer(trained.config, trained.checkpoint, [tmp_path / "deep.png"], out=out, device="cpu")

    assert cv2.imread(str(out / "deep.png"))[0, 0].tolist() == [156, 156, 156]


def test_the_images_themselves_are_never_overwritten(trained, images):
    before = (images / "a.png").read_bytes()

    with pytest.raises(ConfigError, match="which the annotated ones would overwrite"):
        infer(trained.config, trained.checkpoint, [images], out=images / ".", device="cpu")

    assert (images / "a.png").read_bytes() == before


def test_the_default_folder(trained, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    infer(trained.config, trained.checkpoint, ["parts/a.png"], device="cpu")

    folder = tmp_path / "work_dirs" / "tiny" / "demo"
    assert sorted(file.name for file in folder.iterdir()) == ["a.png", "predictions.json"]


# ---- videos ----


@pytest.fixture
def clip(tmp_path):
    """A video of ten dark frames, then two bright ones."""
    file = tmp_path / "clip.mp4"
    with VideoWriter(file, 10) as video:
        for level in [50] * 10 + [200] * 2:
            video.write(np.full((32, 32, 3), level, np.uint8))
    return file


def test_an_annotated_video_and_a_record_of_each_frame(trained, clip, tmp_path):
    out = tmp_path / "out"

    records = infer(trained.config, trained.checkpoint, [clip], out=out, device="cpu")

    assert json.loads((out / "predictions.json").read_text(encoding="utf-8")) == records
    assert [(record["image"], record["frame"]) for record in records] == [
        (str(clip), number) for number in range(12)
    ]
    assert [record["prediction"] for record in records] == ["dark"] * 10 + ["bright"] * 2
    assert sorted(file.name for file in out.iterdir()) == ["clip.mp4", "predictions.json"]
    video = Video(out / "clip.mp4")
    assert (video.rate, video.length) == (10, 12)
    frame = next(iter(video))
    assert frame.shape[0] > frame.shape[1] == 32  # with the caption


def test_images_and_videos_together(trained, images, clip, tmp_path):
    out = tmp_path / "out"
    clip = clip.rename(tmp_path / "a.mp4")

    records = infer(
        trained.config, trained.checkpoint, [clip, images / "a.png"], out=out, device="cpu"
    )

    assert ["frame" in record for record in records] == [False] + [True] * 12
    pictures = {file.name for file in out.iterdir() if file.suffix != ".json"}
    assert pictures == {f"{tmp_path.name}_a.mp4", "parts_a.png"}


def test_what_a_task_says_of_each_pixel_of_a_frame(trained, clip, tmp_path, monkeypatch):
    task = TASKS.get("Classification")
    monkeypatch.setattr(task, "maps", lambda *_: {"masks": np.zeros((4, 4), np.uint8)})

    infer(trained.config, trained.checkpoint, [clip], out=tmp_path / "out", device="cpu")

    masks = sorted(file.name for file in (tmp_path / "out" / "masks").iterdir())
    assert masks == [f"clip_{number:06d}.png" for number in range(12)]


def test_a_video_itself_is_never_overwritten(trained, clip):
    with pytest.raises(ConfigError, match="which the annotated ones would overwrite"):
        infer(trained.config, trained.checkpoint, [clip], out=clip.parent, device="cpu")


def test_activation_maps_are_of_images(trained, clip, tmp_path):
    with pytest.raises(ConfigError, match="--cam: maps are drawn of images, not of videos"):
        infer(trained.config, trained.checkpoint, [clip], out=tmp_path / "out", cam=True)


# ---- mistakes ----


@pytest.mark.parametrize(
    ("images", "checkpoint", "word"),
    [
        (["nowhere.png"], None, r"nowhere\.png"),
        (["nowhere.mp4"], None, r"nowhere\.mp4"),
        (["."], None, "image"),
        ([__file__], "nowhere.pth", r"nowhere\.pth"),
    ],
)
def test_mistakes_leave_no_folder(trained, tmp_path, monkeypatch, images, checkpoint, word):
    monkeypatch.chdir(tmp_path)

    with pytest.raises((DataError, CheckpointError), match=word):
        infer(trained.config, checkpoint or trained.checkpoint, images, out=tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_maps_of_a_task_that_has_none(trained, images, tmp_path, monkeypatch):
    class Plain:
        inferencer = Inferencer

    monkeypatch.setitem(TASKS.module_dict, "Plain", Plain)

    with pytest.raises(ConfigError, match="--cam: the task has no class-activation maps"):
        infer(
            trained.config,
            trained.checkpoint,
            [images],
            out=tmp_path / "out",
            cam=True,
            device="cpu",
            options={"task.type": "aicore.Plain"},
        )


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/x.png", "b/y.png"], ["x", "y"]),
        (["a/x.png", "b/x.png", "y.png"], ["a_x", "b_x", "y"]),
        (["a/x.png", "a/x.jpg"], ["a_x", "a_x_1"]),
        (["1/a/x.png", "2/a/x.png", "a_x_1.png"], ["a_x", "a_x_1", "a_x_1_1"]),
        (["a_x.png", "a/x.png", "b/x.png"], ["a_x", "a_x_1", "b_x"]),
        (["x.png", "X.png"], ["_x", "_X_1"]),
        (["x.png", "x_cam.png"], ["x", "x_cam"]),
        (
            ["x_000001.png", "x_000002.png", "x.png", "x_y.mp4"],
            ["x_000001", "x_000002", "x", "x_y"],
        ),
        (["x_000001.png", "x.mp4"], ["x_000001", "x_1"]),
        ([], []),
    ],
)
def test_names_of_pictures_differ(files, names):
    assert _unique_names([Path(file) for file in files]) == names


@pytest.mark.parametrize("files", [["x.png", "x_cam.png"], ["x_CAM.png", "x.png"]])
def test_no_picture_is_called_as_the_map_of_another(files):
    first, second = (name.casefold() for name in _unique_names([Path(f) for f in files], cam=True))

    assert len({first, second, f"{first}_cam", f"{second}_cam"}) == 4


def test_long_names_are_cut_and_differ(trained, tmp_path):
    source = trained.data_root / "val" / "dark" / "dark_0.png"
    folder, out = tmp_path / "parts", tmp_path / "out"
    folder.mkdir()
    for suffix in ("a.png", "b.png", "c"):
        shutil.copy(source, folder / ("零" * 82 + suffix))

    infer(
        trained.config,
        trained.checkpoint,
        sorted(folder.iterdir()),
        out=out,
        cam=True,
        device="cpu",
    )

    assert len(list(out.glob("*.png"))) == 6
    assert all(file.name.startswith("零" * 70) for file in out.glob("*.png"))


def test_names_may_hold_any_byte(trained, tmp_path):
    source = trained.data_root / "val" / "dark" / "dark_0.png"
    folder, out = tmp_path / "parts", tmp_path / "out"
    folder.mkdir()
    names = [b"caf\xe9.png", b"tab\t.png", b"line\n.png", b"\x1b[31m.png", b"${width}.png"]
    for name in names:
        shutil.copy(source, os.fsencode(folder) + b"/" + name)

    records = infer(trained.config, trained.checkpoint, [folder], out=out, device="cpu")

    assert json.loads((out / "predictions.json").read_bytes().decode()) == records
    assert {os.fsencode(Path(record["image"]).name) for record in records} == set(names)
    assert {os.fsencode(file.name) for file in out.glob("*.png")} == set(names)


# ---- what is finished is kept ----


OUT_OF_MEMORY = (
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    torch.OutOfMemoryError("CUDA out of memory."),
)


@pytest.mark.parametrize("error", [*OUT_OF_MEMORY, DataError("Too bright.")])
def test_an_image_that_cannot_be_inspected_costs_itself_only(
    trained, images, tmp_path, monkeypatch, error
):
    forward, out = Inferencer.forward, tmp_path / "out"

    def forward_small(self, batch):
        if any(sample.img_path.endswith("wide.jpg") for sample in batch["data_samples"]) and any(
            sample.ori_shape != (32, 32) for sample in batch["data_samples"]
        ):
            raise error
        return forward(self, batch)

    monkeypatch.setattr(Inferencer, "forward", forward_small)

    records = infer(trained.config, trained.checkpoint, [images], out=out, device="cpu")

    assert json.loads((out / "predictions.json").read_text(encoding="utf-8")) == records
    assert [record["inspected"] for record in records] == [True, False, True, False]
    assert re.match("there is not enough memory|Too bright$", records[3]["reason"])
    assert {file.name for file in out.glob("*.png")} == {"parts_a.png", "more_a.png"}


def test_another_error_of_the_network_is_none_of_an_image(trained, images, tmp_path, monkeypatch):
    def fail(self, batch):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Inferencer, "forward", fail)

    with pytest.raises(RuntimeError, match="a bug"):
        infer(trained.config, trained.checkpoint, [images], out=tmp_path / "out", device="cpu")


def test_a_picture_that_cannot_be_drawn_costs_no_record(
    trained, images, tmp_path, monkeypatch, capsys
):
    def fail(self, image, record):
        raise MemoryError

    monkeypatch.setattr(TASKS.get("Classification"), "draw", fail)

    records = infer(
        trained.config, trained.checkpoint, [images], out=tmp_path / "out", device="cpu"
    )

    assert sum(record["inspected"] for record in records) == 3
    assert "not enough memory to draw" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_was_finished_before_an_error_is_kept(trained, images, tmp_path, monkeypatch, error):
    task, out = TASKS.get("Classification"), tmp_path / "out"
    draw, seen = task.draw, []

    def draw_twice(self, image, record):
        seen.append(record)
        if len(seen) > 2:
            raise error
        return draw(self, image, record)

    monkeypatch.setattr(task, "draw", draw_twice)

    with pytest.raises(error):
        infer(trained.config, trained.checkpoint, [images], out=out, device="cpu")

    records = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert [Path(record["image"]).name for record in records] == ["a.png", "broken.png", "a.png"]
    assert {file.name for file in out.glob("*.png")} == {"parts_a.png", "more_a.png"}


# ---- the first step of every run ----


def test_default_folders():
    assert default_work_dir("configs/classification/resnet18.py") == "work_dirs/resnet18"
    assert default_work_dir("a/b.py", "test") == "work_dirs/b/test"


def test_runs_of_one_second_share_no_log(leaf_config, tmp_path):
    runners = []
    for name in ("one", "two"):
        config = open_config(leaf_config)
        config.work_dir = str(tmp_path / name)
        runners.append(build_runner(config))

    first, second = runners
    assert first.experiment_name.startswith("tiny-one_")
    assert first.logger is not second.logger
    assert first.message_hub is not second.message_hub
    assert first.visualizer is not second.visualizer
    assert all(Path(r.log_dir).parent == Path(r.work_dir) for r in runners)


def test_the_sample_data_are_drawn_where_a_config_stands_on_them(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("aicore.apis.setup.make_sample", made.append)
    own, sample = tmp_path / "own.py", tmp_path / "sample.py"
    own.write_text("a = 1\n", encoding="utf-8")
    sample.write_text("sample_data = 'data/sample'\n", encoding="utf-8")

    open_config(own)
    assert made == []
    open_config(sample, {"sample_data": str(tmp_path / "x")})

    assert made == [tmp_path / "x"]
