from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from aicore.apis.browse import browse
from aicore.errors import ConfigError
from aicore.registry import TASKS

TOOL = "tools/misc/browse_dataset.py"
STEP = 128 + 4  # a cell and its margin, in pixels
COLORS = {"bright": (0, 0, 255), "dark": (0, 255, 0), "striped": (255, 0, 0)}


class Painter:
    """A task that fills the lower half of an image with the colour of its class."""

    def record(self, sample, classes):
        return {"truth": classes[int(sample.gt_label)]}

    def draw(self, image, record):
        image = image.copy()
        image[len(image) // 2 :] = COLORS[record["truth"]]
        return image


@pytest.fixture
def painter_config(leaf_config, tmp_path):
    """The leaf config with another task, which shared code cannot know."""
    TASKS.register_module(module=Painter)
    file = tmp_path / "painter.py"
    file.write_text(f"_base_ = {leaf_config.as_posix()!r}\ntask = dict(type='Painter')\n")
    yield file
    TASKS.module_dict.pop("Painter")


def cells(file: Path) -> list[list[np.ndarray]]:
    """Returns the grid's cells, rows of columns, without their margins."""
    grid = cv2.imread(str(file))
    rows, columns = grid.shape[0] // STEP, grid.shape[1] // STEP
    assert grid.shape == (rows * STEP, columns * STEP, 3)
    return [
        [grid[r * STEP + 2 :, c * STEP + 2 :][:128, :128] for c in range(columns)]
        for r in range(rows)
    ]


def test_labels_are_drawn_by_the_task_of_the_config(painter_config, tmp_path):
    file = browse(painter_config, split="val", count=12, columns=4, out=tmp_path / "grid.png")

    grid = cells(file)
    assert [len(row) for row in grid] == [4, 4, 4]
    # All 12 in the order of the data set: a row for each class.
    levels = {"bright": 200, "dark": 50}
    for row, name in zip(grid, ("bright", "dark", "striped"), strict=True):
        for cell in row:
            assert (cell[70:] == COLORS[name]).all()
            assert cell[:60].mean() == pytest.approx(levels.get(name, 125), abs=4)


def test_the_choice_holds_several_classes(painter_config, tmp_path):
    (row,) = cells(browse(painter_config, count=6, columns=6, out=tmp_path / "grid.png"))

    assert len({tuple(cell[100, 64]) for cell in row}) > 1


def test_original_stands_to_the_left(painter_config, tmp_path):
    file = browse(painter_config, "val", 12, 2, tmp_path / "grid.png", original=True)

    grid = cells(file)
    assert [len(row) for row in grid] == [4] * 6
    original, label = grid[0][0], grid[0][1]
    # 32 x 32 with a caption below: scaled by less than 4 to fit, and centred.
    height = 128 * 32 // (32 + 15)
    scaled = original[:height, (128 - height) // 2 :][:, :height]
    assert scaled[:80].mean() == pytest.approx(200, abs=4)
    assert original[height + 4 :].mean() < 100  # the caption
    assert (label[70:] == COLORS["bright"]).all()


def test_the_seed_decides_over_choice_and_augmentation(leaf_config, tmp_path):
    def picture(seed: int, name: str) -> bytes:
        return browse(leaf_config, count=4, out=tmp_path / name, seed=seed).read_bytes()

    first = picture(0, "a.png")
    assert picture(0, "b.png") == first
    assert picture(1, "c.png") != first


def test_all_samples_where_there_are_fewer(leaf_config, tmp_path):
    grid = cells(browse(leaf_config, "val", 1000, columns=5, out=tmp_path / "grid.png"))

    assert [len(row) for row in grid] == [5, 5, 5]
    assert (grid[2][2] == 40).all()  # 12 samples: the last three cells are empty
    assert not (grid[2][1] == 40).all()


def test_sixteen_bit_grey(leaf_config, tmp_path):
    for name, level in (("bright", 3000), ("dark", 1000)):
        folder = tmp_path / "data" / "val" / name
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), np.full((32, 32), level, np.uint16))
    options = {
        "data_root": str(tmp_path / "data"),
        "train": "val",
        "in_channels": 1,
        "white_level": 4095,
    }

    file = browse(leaf_config, "val", 2, 1, tmp_path / "grid.png", original=True, options=options)

    for row, level in zip(cells(file), (3000, 1000), strict=True):
        for cell in row:  # original and input on one scale
            assert np.median(cell[:80, 30:98]) == pytest.approx(level * 255 / 4095, abs=1)


def test_unreadable_image_is_shown_as_such(painter_config, class_folders, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(class_folders, data)
    for path in (data / "val").rglob("*.png"):
        path.write_bytes(b"")

    file = browse(
        painter_config, "val", 2, 2, tmp_path / "grid.png", True, 0, {"data_root": str(data)}
    )

    assert not cells(file)[0][1][:60].any()  # black


def test_tool_writes_into_a_new_folder(call_tool, leaf_config, tmp_path):
    file = tmp_path / "new" / "grid.png"

    done = call_tool(TOOL, leaf_config, "--count", "6", "--columns", "3", "--out", file)

    assert (done.returncode, done.stdout) == (0, f"picture in {file}\n")
    assert [len(row) for row in cells(file)] == [3, 3]


def test_default_place(leaf_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    browse(leaf_config, "val", count=1)

    assert (tmp_path / "work_dirs" / "tiny" / "browse_val.png").is_file()


def test_split_that_the_config_lacks(call_tool, leaf_config):
    done = call_tool(TOOL, leaf_config, "--split", "test", "--cfg-options", "test_dataloader=None")

    assert done.returncode == 1
    assert "test_dataloader is not set" in done.stderr
    assert "train_dataloader, val_dataloader" in done.stderr


@pytest.mark.parametrize(("count", "columns"), [(0, 4), (4, 0), (-1, 1)])
def test_count_and_columns_have_to_be_positive(leaf_config, count, columns):
    with pytest.raises(ConfigError, match="at least 1"):
        browse(leaf_config, count=count, columns=columns)


def test_pipeline_that_does_not_pack(leaf_config, tmp_path):
    file = tmp_path / "leaf.py"
    file.write_text(
        f"_base_ = {leaf_config.as_posix()!r}\n"
        "val_dataloader = dict(dataset=dict(pipeline=[dict(type='aicore.LoadImage')]))\n"
    )

    with pytest.raises(ConfigError, match="gives no 'inputs'"):
        browse(file, "val", out=tmp_path / "grid.png")
