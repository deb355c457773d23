from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from aicore.runtime.files import atomic_write


def test_the_file_holds_what_was_written(tmp_path):
    with atomic_write(tmp_path / "a.bin") as stream:
        stream.write(b"new")

    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_until_all_is_written_the_old_content_stays(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")

    with atomic_write(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"

    assert file.read_bytes() == b"new"


def test_an_error_leaves_the_old_content_and_no_litter(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")

    with pytest.raises(ValueError, match="midway"), atomic_write(file) as stream:
        stream.write(b"ne")
        raise ValueError("midway")

    assert [other.name for other in tmp_path.iterdir()] == ["a.bin"]
    assert file.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_content(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"), atomic_write(file) as stream:
            stream.write(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert [other.name for other in tmp_path.iterdir()] == ["a.bin"]
    assert file.read_bytes() == b"old"


def test_a_kill_leaves_the_old_content(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")
    program = textwrap.dedent(
        """
        import os, signal, sys
        from aicore.runtime.files import atomic_write
        with atomic_write(sys.argv[1]) as stream:
            stream.write(b"ne")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )

    done = subprocess.run([sys.executable, "-c", program, str(file)], check=False)

    assert done.returncode == -signal.SIGKILL
    assert file.read_bytes() == b"old"
