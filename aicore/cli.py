"""What every command line shares: errors as one sentence, and the options that configs take.

Imports nothing heavy, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aicore.errors import AicoreError, shown
from aicore.options import OptionText
from aicore.runtime.files import DISK_ERRORS

# New objects after which python looks for garbage. With its own 700, a fifth of the time in which
# the libraries are imported goes into looking, and nothing is found.
_COLLECT_AFTER = 50_000


def run(main: Callable[[], int | None]) -> None:
    """Runs a tool's ``main`` and exits with its code.

    A user's mistake (:class:`AicoreError`, a file that cannot be read or written, a full disk) ends
    with its sentence on stderr and exit code 1, an interrupt from the keyboard with 130, and output
    that is no longer read (``| head``) without a word, with 1. Anything else is a bug and keeps its
    stack trace.
    Modules that a config imports are found from the folder the tool is started in, as they are
    with ``python -m``. What the terminal's encoding does not have is printed as escapes.
    """
    sys.path.insert(0, str(Path.cwd()))
    gc.set_threshold(_COLLECT_AFTER)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    threading.excepthook = _tell_of_thread
    try:
        code = main()
        sys.stdout.flush()
    except AicoreError as error:
        code = _fail(_sentence(error))
    except BrokenPipeError:
        if not _is_stdout_closed():  # a pipe between processes
            raise
        code = 1
    except OSError as error:
        if not _is_of_a_file(error):
            raise
        code = _fail(_sentence(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


def say(text: object) -> None:
    """Prints what a tool found; names in it that would steer the terminal become escapes."""
    print(shown(str(text)))


def _fail(sentence: str) -> int:
    print(f"error: {shown(sentence)}", file=sys.stderr)
    return 1


def _is_stdout_closed() -> bool:
    """Tells whether nobody reads stdout any more; then python does not write to it at exit."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _is_of_a_file(error: BaseException) -> bool:
    """Tells a file that cannot be used from a bug or a broken connection."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in DISK_ERRORS)


def _tell_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Says in one line why a thread ended, if for a file: TensorBoard writes its own in one."""
    if _is_of_a_file(ended.exc_value):
        print(f"warning: {shown(_sentence(ended.exc_value))}", file=sys.stderr)
    else:
        threading.__excepthook__(ended)


def _sentence(error: AicoreError | OSError) -> str:
    """Returns the error's own words, also where a DataLoader worker wrapped a trace around them."""
    if isinstance(error, OSError):
        name = "a file" if error.filename is None else repr(error.filename)
        return f"{name} cannot be used: {error.strerror}."
    text = str(error).strip()
    if "Original Traceback" not in text:
        return text
    return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip()


class ConfigOptions(argparse.Action):
    """Collects ``key=value`` texts; what they mean, the config tells that they override."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Adds ``values`` to the dict of dotted keys."""
        options = dict(getattr(namespace, self.dest) or {})
        for value in values:
            key, equals, text = value.partition("=")
            if not (key and equals):
                parser.error(f"{option_string}: {value!r} is not of the form key=value")
            options[key] = OptionText(text)
        setattr(namespace, self.dest, options)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``CONFIG`` and ``--cfg-options``, which every tool over a config takes."""
    parser.add_argument("config", help="config file, e.g. configs/classification/resnet18.py")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help="override settings of the config: max_epochs=5 optim_wrapper.optimizer.lr=0.01; "
        'lists as key="[a,b]" or key=a,b; what is a text in the config stays one: train=2024',
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--trust-checkpoint``, which every tool that reads a checkpoint takes."""
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read a checkpoint that holds more than weights: it can run any code of its author's",
    )


def add_launcher_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--launcher``, which the scripts for several processes give."""
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch"),
        help="pytorch: one of several processes of torchrun; see tools/dist_train.sh",
    )


def settings_of(arguments: argparse.Namespace, *switches: str) -> dict[str, Any]:
    """Returns the config's settings that a command line gives.

    Args:
        arguments: The command line.
        *switches: Names of its arguments that are settings of the config too.

    Returns:
        Those that were given, and the ``--cfg-options``, which win.
    """
    given = {name: getattr(arguments, name) for name in switches if getattr(arguments, name)}
    return {**given, **(arguments.cfg_options or {})}
