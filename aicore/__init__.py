"""From a factory's images to a running inspection model, on MMEngine.

Importing it makes mmcv's ops work without a compiler (see :mod:`aicore.compat`) and loads
nothing heavy: no torch, no numpy.
"""

import os

from aicore import compat
from aicore.version import __version__

__all__ = ["__version__"]

compat.install()
# Albumentations asks its server for a newer version when it is imported; factories are air-gapped.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
