from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys

import pytest

from aicore.cli import add_config_arguments, run, say
from aicore.errors import AicoreError, ConfigError, DataError, ImageError
from aicore.options import OptionText


def ends_with(main) -> int:
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code


def failing(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_the_exit_code_is_what_main_returns(returned, code):
    assert ends_with(lambda: returned) == code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AicoreError("a is wrong."), "error: a is wrong.\n"),
        (ConfigError(" b is wrong.\n"), "error: b is wrong.\n"),
        (ImageError("p.png", "it is empty"), "error: Cannot use image p.png: it is empty.\n"),
    ],
)
def test_a_users_mistake_is_one_sentence(capsys, error, line):
    assert ends_with(failing(error)) == 1

    output = capsys.readouterr()
    assert output.err == line
    assert output.out == ""


def test_the_trace_of_a_data_loaders_worker_is_left_out(capsys):
    text = (
        "Caught DataError in DataLoader worker process 1.\n"
        "Original Traceback (most recent call last):\n"
        '  File "base.py", line 35, in prepare_data\n'
        "aicore.errors.ImageError: Cannot use image a.png: it is empty.\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        '  File "bad_images.py", line 47, in add\n'
        "aicore.errors.DataError: 3 of 9 images cannot be read.\n"
    )

    assert ends_with(failing(DataError(text))) == 1

    assert capsys.readouterr().err == "error: 3 of 9 images cannot be read.\n"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EACCES, "Permission denied"),
        (errno.EEXIST, "File exists"),
        (errno.ENOTDIR, "Not a directory"),
        (errno.EISDIR, "Is a directory"),
        (errno.ENOENT, "No such file or directory"),
        (errno.EROFS, "Read-only file system"),
        (errno.ENOSPC, "No space left on device"),
        (errno.ENAMETOOLONG, "File name too long"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(capsys, number, reason):
    assert ends_with(failing(OSError(number, os.strerror(number), "out/a.png"))) == 1

    assert capsys.readouterr().err == f"error: 'out/a.png' cannot be used: {reason}.\n"


def test_a_full_disk_need_not_name_its_file(capsys):
    assert ends_with(failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))) == 1

    assert capsys.readouterr().err == "error: a file cannot be used: No space left on device.\n"


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), OSError("no number")])
def test_an_error_of_the_system_without_a_file_is_a_bug(error):
    with pytest.raises(type(error)):
        run(failing(error))


def test_a_thread_that_cannot_write_is_told_without_a_trace():
    program = (
        "import errno, threading\n"
        "from aicore.cli import run\n"
        "def write(error):\n"
        "    raise error\n"
        "def main():\n"
        "    for error in (OSError(errno.ENOSPC, 'No space'), ValueError('a bug')):\n"
        "        thread = threading.Thread(target=write, args=[error])\n"
        "        thread.start()\n"
        "        thread.join()\n"
        "run(main)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    first, _, bug = done.stderr.partition("\n")
    assert first == "warning: a file cannot be used: No space."
    assert "Traceback" in bug
    assert "ValueError: a bug" in bug


def test_names_do_not_steer_the_terminal(capsys):
    assert ends_with(failing(DataError("a\x1b[2J\r\u202eb.png\nhas 零件\tand \udcff."))) == 1
    say("零件 1 \x1b[31m")

    output = capsys.readouterr()
    assert output.err == "error: a\\x1b[2J\\r\\u202eb.png\nhas 零件\tand \\udcff.\n"
    assert output.out == "零件 1 \\x1b[31m\n"


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "cp1252"])
def test_what_the_terminal_cannot_encode_is_printed_as_escapes(encoding):
    program = (
        "from aicore.cli import run, say\n"
        "from aicore.errors import DataError\n"
        "def main():\n"
        "    say('零件 \\u0142 \\udcff')\n"
        "    raise DataError('零件 \\u0142')\n"
        "run(main)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=60,
    )

    assert done.returncode == 1
    expected = "零件 \u0142 ".encode(encoding, "backslashreplace")
    assert done.stdout == expected + b"\\udcff\n"
    assert done.stderr == b"error: " + expected.strip() + b"\n"


def test_an_interrupt(capsys):
    assert ends_with(failing(KeyboardInterrupt())) == 130

    assert capsys.readouterr().err == "interrupted\n"


def test_output_that_is_no_longer_read():
    program = (
        "from aicore.cli import run; run(lambda: [print('line') for _ in range(100_000)] and 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()

        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_broken_pipe_between_processes_is_a_bug():
    with pytest.raises(BrokenPipeError):
        run(failing(BrokenPipeError()))


def test_a_bug_keeps_its_trace():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


def test_modules_of_the_working_directory_are_found(tmp_path, monkeypatch):
    (tmp_path / "module_of_the_user.py").write_text("code = 7\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    assert ends_with(lambda: __import__("module_of_the_user").code) == 7


# ---- --cfg-options ----


def options_of(*values: str) -> dict:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return parser.parse_args(["config.py", "--cfg-options", *values]).cfg_options


def test_several_options_in_one_or_two_goes():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)

    arguments = parser.parse_args(["c.py", "--cfg-options", "a.b=1", "c=2", "--cfg-options", "c=3"])

    assert arguments.config == "c.py"
    assert arguments.cfg_options == {"a.b": "1", "c": "3"}
    assert {type(text) for text in arguments.cfg_options.values()} == {OptionText}


def test_no_options():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)

    assert parser.parse_args(["c.py"]).cfg_options is None


@pytest.mark.parametrize("text", ["max_epochs", "=3"])
def test_what_is_no_option(capsys, text):
    with pytest.raises(SystemExit) as caught:
        options_of(text)

    assert caught.value.code == 2
    assert f"{text!r} is not of the form key=value" in capsys.readouterr().err


def test_it_imports_nothing_heavy():
    code = "import sys, aicore.cli; print({'torch', 'cv2', 'mmcv', 'timm'} & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )

    assert done.stdout == "set()\n"
