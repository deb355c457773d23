"""Two packages bring ``cv2``, and both arrive as requirements of others."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version


def test_cv2_imports_and_works():
    code = "import cv2, numpy; assert cv2.resize(numpy.zeros((4, 4, 3)), (2, 2)).shape == (2, 2, 3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_both_packages_have_one_version():
    assert version("opencv-python") == version("opencv-python-headless")
