from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import aicore

REPOSITORY = Path(__file__).parents[1]
TIMED_IMPORT = """
import sys, time
start = time.perf_counter()
import aicore
print(time.perf_counter() - start)
heavy = {"torch", "numpy", "mmengine", "mmcv", "cv2"} & set(sys.modules)
assert not heavy, heavy
"""


def test_import_is_quick_and_light():
    seconds = [
        float(
            subprocess.run(
                [sys.executable, "-c", TIMED_IMPORT],
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(seconds) < 0.1


def test_version():
    assert aicore.__version__.count(".") == 2


def test_albumentations_is_kept_from_asking_its_server_unless_the_user_wants_it():
    code = "import os; {}import aicore; print(os.environ['NO_ALBUMENTATIONS_UPDATE'])"
    for before, expected in (("", "1"), ("os.environ['NO_ALBUMENTATIONS_UPDATE'] = '0'; ", "0")):
        found = subprocess.run(
            [sys.executable, "-c", code.format(before)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert found.strip() == expected
