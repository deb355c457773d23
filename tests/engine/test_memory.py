import gc
import platform
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = Path(__file__).parents[2] / "aicore/engine/memory.py"
_PAGES_OF_FREED_BLOCKS = """
import resource
import runpy
import sys

import numpy as np

if sys.argv[1:]:
    # By its path: with its package torch would be imported.
    assert runpy.run_path(sys.argv[1])["keep_freed_memory"]()
np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2**23)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc")
def test_freed_memory_is_used_again():
    faults = [
        int(subprocess.check_output([sys.executable, "-c", _PAGES_OF_FREED_BLOCKS, *arguments]))
        for arguments in ([], [MEMORY])
    ]
    assert faults[1] < faults[0] / 5


def test_other_allocators_are_left_alone(monkeypatch):
    from aicore.engine.memory import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", ""))
    assert not keep_freed_memory()


def test_what_is_there_is_no_garbage_until_the_end():
    from aicore.engine.memory import frozen_garbage_collection

    gc.unfreeze()
    with pytest.raises(ValueError, match="a bug"), frozen_garbage_collection():
        assert gc.get_freeze_count() > 1000
        raise ValueError("a bug")
    assert gc.get_freeze_count() == 0
