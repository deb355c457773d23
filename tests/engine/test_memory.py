import platform
import subprocess
import sys

import pytest

_PAGES_OF_FREED_BLOCKS = """
import resource
import sys

import numpy as np

if sys.argv[1:]:
    from aicore.engine.memory import keep_freed_memory

    assert keep_freed_memory()
np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**23)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc")
def test_freed_memory_is_used_again():
    faults = [
        int(subprocess.check_output([sys.executable, "-c", _PAGES_OF_FREED_BLOCKS, *arguments]))
        for arguments in ([], ["keep"])
    ]
    assert faults[1] < faults[0] / 5


def test_other_allocators_are_left_alone(monkeypatch):
    from aicore.engine.memory import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", ""))
    assert not keep_freed_memory()
