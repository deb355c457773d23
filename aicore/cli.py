"""What every command line shares: errors as one sentence, and the options that configs take.

Imports nothing heavy, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from aicore.errors import AicoreError


def run(main: Callable[[], int | None]) -> None:
    """Runs a tool's ``main`` and exits with its code.

    A user's mistake (:class:`AicoreError`, a path that cannot be written) ends with its sentence
    on stderr and exit code 1, an interrupt from the keyboard with 130, and output that is no
    longer read (``| head``) without a word, with 1. Anything else is a bug and keeps its stack
    trace.
    Modules that a config imports are found from the folder the tool is started in, as they are
    with ``python -m``.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        code = main()
        sys.stdout.flush()
    except AicoreError as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        code = 1
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        print(f"error: {error.filename!r} cannot be used: {error.strerror}.", file=sys.stderr)
        code = 1
    except BrokenPipeError:
        if not _is_stdout_closed():  # a pipe between processes
            raise
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


def _is_stdout_closed() -> bool:
    """Tells whether nobody reads stdout any more; then python does not write to it at exit."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _sentence(error: AicoreError) -> str:
    """Returns the error's own words, also where a DataLoader worker wrapped a trace around them."""
    text = str(error).strip()
    if "Original Traceback" not in text:
        return text
    return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip()


class ConfigOptions(DictAction):
    """MMEngine's ``key=value`` action, with a sentence instead of a trace for a misspelt option.

    A value that is no list keeps its blanks, as paths have them; an expression is kept as it is.
    """

    @staticmethod
    def _parse_iterable(val: str) -> Any:
        if val.startswith("${"):
            return val
        if "," in val or val[:1] in ("[", "("):
            return DictAction._parse_iterable(val)
        return DictAction._parse_int_float_bool(val.strip("'\""))

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Parses ``values`` into a dict of dotted keys."""
        for value in values:
            if "=" not in value:
                parser.error(f"{option_string}: {value!r} is not of the form key=value")
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that do not match
            parser.error(f"{option_string}: {error}")
        except RecursionError:  # brackets with commas within a text
            parser.error(f"{option_string}: expected key=value, key=a,b or key=[a,b], not {values}")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``CONFIG`` and ``--cfg-options``, which every tool over a config takes."""
    parser.add_argument("config", help="config file, e.g. configs/classification/resnet18.py")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help="override settings of the config: max_epochs=5 optim_wrapper.optimizer.lr=0.01; "
        'lists as key="[a,b]" or key=a,b',
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
