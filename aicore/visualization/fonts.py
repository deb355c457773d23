"""Fonts for class names in any script: matplotlib's own, and a CJK font of the system."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import fontManager
from PIL import ImageFont

# What Windows, macOS and the Linux distributions bring along, simplified Chinese first.
_CJK_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "AR PL UMing CN",
)
_FIRST_CJK = "\u2e80"


@cache
def _cjk_font() -> tuple[str, str] | None:
    """Returns family and file of an installed CJK font, or None."""
    installed = {entry.name: entry.fname for entry in fontManager.ttflist}
    return next(((name, installed[name]) for name in _CJK_FAMILIES if name in installed), None)


def font_families() -> list[str]:
    """Returns the families for a plot; matplotlib takes the first that has the glyph."""
    cjk = _cjk_font()
    return ["DejaVu Sans", *([cjk[0]] if cjk else [])]


@cache
def load_font(size: int, cjk: bool) -> ImageFont.FreeTypeFont:
    """Returns a font of ``size`` pixels; with ``cjk``, one for Chinese where there is one."""
    found = _cjk_font() if cjk else None
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(found[1] if found else str(folder / "DejaVuSans.ttf"), size)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Returns a font of ``size`` pixels that has the characters of ``text``, where possible."""
    return load_font(size, cjk=any(character >= _FIRST_CJK for character in text))
