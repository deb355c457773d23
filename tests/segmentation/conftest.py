from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

CLASSES = ("background", "square", "disc")
SIDE = 64  # pixels


def draw_scene(generator: np.random.Generator, shape: int, side: int = SIDE) -> tuple:
    """Returns a grey picture (side x side x 3) and its mask: nothing, a square or a disc."""
    image = generator.normal(80, 6, (side, side, 3))
    mask = np.zeros((side, side), np.uint8)
    x, y = generator.integers(16, side - 16, 2).tolist()
    if shape == 1:
        cv2.rectangle(mask, (x - 9, y - 9), (x + 9, y + 9), 1, -1)
    elif shape == 2:
        cv2.circle(mask, (x, y), 10, 2, -1)
    image[mask == 1] += 90
    image[mask == 2] -= 60
    return np.clip(image, 0, 255).astype(np.uint8), mask


def write_scenes(root: Path, counts: dict[str, int]) -> Path:
    """Writes ``images/<split>``, ``masks/<split>`` and ``labels.txt``."""
    generator = np.random.default_rng(0)
    for split, count in counts.items():
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            image, mask = draw_scene(generator, index % 3)
            cv2.imwrite(str(root / "images" / split / f"{index}.png"), image)
            cv2.imwrite(str(root / "masks" / split / f"{index}.png"), mask)
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root with 12 training and 6 validation pictures of nothing, a square or a disc.

    Read only: a test that changes the data writes its own.
    """
    return write_scenes(tmp_path_factory.mktemp("scenes"), {"train": 12, "val": 6})
