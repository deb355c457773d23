"""torchrun for tools/dist_run.sh: its failures are one line each, and told apart by exit codes.

1: a process failed, which has said why itself. 75: the first machine is lost. 128 + number: a
signal.
"""

import os
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError
from torch.distributed.run import main

LOST = 75  # EX_TEMPFAIL of sysexits.h: try again


def run() -> int:
    """Runs torchrun with the command line's arguments; returns the exit code."""
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        end = f"was ended by {failure.signal_name()}"
        if failure.exitcode >= 0:
            end = f"ended with exit code {failure.exitcode}"
        print(f"process {rank} of the training {end}; the others were stopped", file=sys.stderr)
        return 1
    except SignalException as error:
        return 128 + error.sigval
    except RendezvousConnectionError as error:
        reason = error.__cause__ or error
        if "EADDRINUSE" in str(reason):
            port = os.environ.get("PORT")
            print(
                f"error: port {port} is in use on this machine; set PORT to a free one.",
                file=sys.stderr,
            )
            return 2
        print(f"no connection to the first machine: {reason}", file=sys.stderr)
        return LOST
    return 0


if __name__ == "__main__":
    sys.exit(run())
