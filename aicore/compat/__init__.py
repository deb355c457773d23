"""Lets the host libraries run without mmcv's compiled ops, and import without noise.

Two import finders, put in place by ``import aicore``:

- :class:`MmcvOpsFinder`, last in ``sys.meta_path``, answers ``mmcv._ext`` when nothing else does:
  a plain ``pip install`` of mmcv has no such module. A compiled one is found before it and wins.
- :class:`QuietFinder`, first, drops one line that mmdet, mmseg and mmpretrain print when they are
  imported without their maintainer's own service package.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TextIO, cast

_NOISE = "Could not import OneDL"
_NOISY_PACKAGES = ("mmdet.datasets", "mmseg.datasets", "mmpretrain.datasets")


class MmcvOpsFinder:
    """Answers ``mmcv._ext`` with :mod:`aicore.compat.mmcv_ext`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the fallback's spec for ``mmcv._ext``, None for any other module."""
        if fullname != "mmcv._ext":
            return None
        return spec_from_file_location(fullname, Path(__file__).with_name("mmcv_ext.py"))


class QuietFinder:
    """Has the packages that print on import found as ever, and loaded without that line."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the ordinary spec with a quiet loader for a noisy package, else None."""
        if fullname not in _NOISY_PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _QuietLoader(spec.loader.name, spec.loader.path)
        return spec


class _QuietLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with redirect_stdout(cast("TextIO", _WithoutNoise(sys.stdout))):
            super().exec_module(module)


class _WithoutNoise:
    """A text stream that passes everything on but the noise and its line end.

    The line comes by ``print``, for want of a logger at that time: no log level reaches it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        line_end = self._dropped and text == "\n"
        self._dropped = text.startswith(_NOISE)
        return len(text) if self._dropped or line_end else self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def install() -> None:
    """Puts both finders in their places in ``sys.meta_path``, and ignores one warning.

    mmdet warns on import of a package that one of its metrics needs, whoever uses that metric.
    """
    warnings.filterwarnings("ignore", "faster_coco_eval is not installed", module="mmdet")
    sys.meta_path.insert(0, QuietFinder())
    sys.meta_path.append(MmcvOpsFinder())
