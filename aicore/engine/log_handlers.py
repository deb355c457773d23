"""Where the lines of MMEngine's logger go: the console and the log file."""

from __future__ import annotations

import logging
import sys

from mmengine.logging import MMLogger

from aicore.errors import shown
from aicore.runtime.files import naming

# Pages that belong in the log file.
_NOT_FOR_THE_CONSOLE = (
    "\n" + "-" * 60 + "\nSystem environment",
    "Config:\n",
    "Distributed training is not used, all SyncBatchNorm",
    "Hooks will be executed in the following order",
)


def adapt_handlers(logger: MMLogger) -> MMLogger:
    """Keeps long dumps from the console and names from steering the terminal; returns the logger.

    A log file that cannot be written ends the run.
    """
    logger.addFilter(_show)
    for index, handler in enumerate(logger.handlers):
        if type(handler) is logging.StreamHandler:
            handler.addFilter(_for_the_console)
        elif type(handler) is logging.FileHandler:
            logger.handlers[index] = _LogFile(handler)
    return logger


class _LogFile(logging.FileHandler):
    """MMEngine's log file, in UTF-8; where it cannot be written, the run ends.

    Python's own would print a stack trace for each line that a full disk does not take.
    """

    def __init__(self, handler: logging.FileHandler) -> None:
        handler.close()
        super().__init__(handler.baseFilename, "a", "utf-8", errors="backslashreplace")
        self.setFormatter(handler.formatter)
        self.setLevel(handler.level)
        self.filters = handler.filters

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        with naming(self.baseFilename):
            raise sys.exc_info()[1]


def _show(record: logging.LogRecord) -> bool:
    record.msg, record.args = shown(record.getMessage()), ()
    return True


def _for_the_console(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOT_FOR_THE_CONSOLE)
