"""What is imported is declared: nothing arrives by chance, as a dependency of another package."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# Libraries that a benchmark compares with, where the user has them.
COMPARED = {"anomalib"}
# The import name says it where the distribution is not installed.
DISTRIBUTIONS = {
    "pytorch_grad_cam": ["grad-cam"],
    "segmentation_models_pytorch": ["segmentation-models-pytorch"],
}


def imported(folder: str) -> set[str]:
    """Returns the third-party modules that a folder's files import, at any place."""
    names = set()
    for file in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"aicore"}


def declared(*files: str) -> set[str]:
    """Returns the distributions that requirements files name."""
    lines = [
        line
        for file in files
        for line in (REPOSITORY / "requirements" / f"{file}.txt").read_text().splitlines()
    ]
    return {re.match(r"[\w.-]+", line)[0].lower() for line in lines if line[:1] not in ("", "#")}


@pytest.mark.parametrize("folder", ["aicore", "tools"])
def test_every_import_is_declared(folder):
    known = packages_distributions() | DISTRIBUTIONS
    requirements = declared("runtime", "optional", "tests")

    missing = {
        name
        for name in imported(folder) - COMPARED
        if not {item.lower() for item in known.get(name, [name])} & requirements
    }

    assert not missing


def test_what_the_runtime_needs_is_no_extra():
    assert {"torch", "pillow", "pyyaml", "pycocotools"} <= declared("runtime")
