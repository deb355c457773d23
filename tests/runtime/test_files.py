from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from aicore.runtime.files import Walk, atomic_write, walk_files, why_no_file


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


def make(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def names_of(paths, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def reasons_of(walk: Walk, root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): reason for path, reason in walk.left_out}


def test_a_walk_goes_to_the_last_subfolder_and_passes_over_hidden_ones(tmp_path):
    make(tmp_path, "b.png", "a/2.txt", "a/b/c/1", ".git/x", "a/.hidden/y", "a/._2.txt")

    walk = walk_files(tmp_path)

    assert names_of(walk.files, tmp_path) == ["a/2.txt", "a/b/c/1", "b.png"]
    assert walk.left_out == []
    assert walk_files(tmp_path / ".git").files == [tmp_path / ".git/x"]  # asked for by its name


def test_a_walk_follows_links_to_files_and_folders(tmp_path):
    make(tmp_path / "store", "lot/1.png", "2.png")
    data = make(tmp_path / "data", "good/0.png")
    (data / "bad").symlink_to(tmp_path / "store/lot")
    (data / "good/2.png").symlink_to(tmp_path / "store/2.png")
    (tmp_path / "link").symlink_to(data)

    names = ["bad/1.png", "good/0.png", "good/2.png"]
    assert names_of(walk_files(data).files, data) == names
    assert names_of(walk_files(tmp_path / "link").files, tmp_path / "link") == names
    assert walk_files(data).left_out == []


def test_loops_end_and_a_folder_is_read_once_by_its_own_name(tmp_path):
    make(tmp_path, "a/x/1.png", "z/2.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/x/a").symlink_to(tmp_path / "a")
    (tmp_path / "a/zz").symlink_to(tmp_path / "z")
    (tmp_path / "self").symlink_to("self")

    walk = walk_files(tmp_path)

    assert names_of(walk.files, tmp_path) == ["a/x/1.png", "z/2.png"]
    reasons = reasons_of(walk, tmp_path)
    assert list(reasons) == ["a/up", "a/x/a", "a/zz", "self"]
    assert reasons["a/zz"] == f"a link to {str(tmp_path / 'z')!r}, which is read already"
    assert "symbolic links" in reasons["self"]


def test_what_is_no_file_is_left_out_unopened(tmp_path):
    make(tmp_path, "1.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "gone").symlink_to(tmp_path / "no/where")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(tmp_path / "socket.png"))  # an absolute path may be too long

    walk = walk_files(tmp_path)

    assert names_of(walk.files, tmp_path) == ["1.png"]
    assert reasons_of(walk, tmp_path) == {
        "device.png": "a device, no file",
        "gone": "a link to nothing",
        "gone.png": "a link to nothing",
        "pipe.png": "a named pipe, no file",
        "socket.png": "a socket, no file",
    }


def test_a_folder_without_permission_is_left_out(tmp_path, monkeypatch):
    make(tmp_path, "a/1.png", "b/2.png")
    scan = os.scandir

    def refuse(path):
        if Path(path) == tmp_path / "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may be run by root, who may read all

    walk = walk_files(tmp_path)

    assert names_of(walk.files, tmp_path) == ["b/2.png"]
    assert walk.left_out == [(tmp_path / "a", "permission denied")]


def test_a_folder_that_is_not_there_is_left_out(tmp_path):
    make(tmp_path, "file")
    assert walk_files(tmp_path / "none").left_out == [
        (tmp_path / "none", "no such file or directory")
    ]
    assert walk_files(tmp_path / "file").left_out == [(tmp_path / "file", "not a directory")]


def test_names_are_kept_whatever_they_hold(tmp_path):
    names = [b"caf\xe9.png", b"tab\there.png", b"line\nbreak.png", b"\x1b[31mred.png", b"a" * 250]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()

    walk = walk_files(tmp_path)

    assert sorted(os.fsencode(file.name) for file in walk.files) == sorted(names)
    assert walk.left_out == []


def test_an_error_names_the_file_not_the_temporary_one(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "none" / "a.bin"):
        pass

    file = tmp_path / "none" / "a.bin"
    assert str(caught.value) == f"[Errno 2] No such file or directory: {str(file)!r}"


def test_a_name_with_a_null_byte_is_told():
    assert why_no_file(Path("a\0.png")) == "a name with a null byte"
