"""torch.compile for the training; validation stays in plain PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner

from aicore.engine.distributed import plain_model
from aicore.errors import ConfigError


class CompileHook(Hook):
    """Compiles the parts of the model that hold weights, in place.

    Their names, and so checkpoints and averaged weights, stay as they are. A validation runs the
    model as a test does, so that both give the same figures, and nothing is compiled for its sake.
    Registered by the Runner where ``compile`` is on.

    Args:
        options: Arguments of :func:`torch.compile`.
    """

    priority = "VERY_HIGH"

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Compiles; what is compiled shows in the first iterations.

        Raises:
            ConfigError: torch.compile does not work on this machine.
        """
        try:  # what it lacks shows else as a page of its own code, amid the first iteration
            silu = torch.compile(torch.nn.functional.silu, **self.options)
            silu(torch.zeros(8, device=get_device()))
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().splitlines()[0]
            raise ConfigError(
                f"compile = True: torch.compile does not work here: {reason}. It needs a C++ "
                "compiler on a CPU (package g++) and triton with a C compiler on a GPU; train "
                "without it else."
            ) from error
        for part in plain_model(runner.model).children():
            if next(part.parameters(), None) is not None:
                part.compile(**self.options)

    def before_val(self, runner: Runner) -> None:
        """Turns compiled code off."""
        torch.compiler.set_stance("force_eager")
        runner.on_exit.callback(torch.compiler.set_stance, "default")  # if the validation fails

    def after_val(self, runner: Runner) -> None:
        """Turns it on again."""
        torch.compiler.set_stance("default")
