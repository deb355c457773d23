"""What is said about an op that mmcv lacks and aicore does not replace."""

from __future__ import annotations

from aicore.errors import AicoreError


def not_compiled(what: str) -> AicoreError:
    """Returns the error for ``what``, an op or a mode of one, with the way to compiled ops."""
    return AicoreError(
        f"This mmcv has no compiled ops, and aicore has no substitute for {what}: to compile "
        "them, install a C++ compiler and run 'pip install --no-build-isolation --no-cache-dir "
        "--force-reinstall --no-deps onedl-mmcv' (if torch then asks for C++20, run it on the "
        "unpacked source, with -std=c++17 changed to -std=c++20 in its setup.py)."
    )
