from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import aicore

REPOSITORY = Path(__file__).parents[1]
HEAVY = """
import sys, aicore
print({"torch", "numpy", "mmengine", "mmcv", "cv2"} & set(sys.modules))
"""


def test_import_is_light():
    done = subprocess.run(
        [sys.executable, "-c", HEAVY], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


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
