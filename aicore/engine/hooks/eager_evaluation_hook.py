"""Validation during a compiled training, in plain PyTorch."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner


class EagerEvaluationHook(Hook):
    """Has a validation run the model as a test does, not its compiled parts.

    So both give the same figures, and nothing is compiled for the sake of a validation. Registered
    by the Runner where ``compile`` is on.
    """

    priority = "VERY_HIGH"

    def before_val(self, runner: Runner) -> None:
        """Turns compiled code off."""
        torch.compiler.set_stance("force_eager")
        runner.on_exit.callback(torch.compiler.set_stance, "default")  # if the validation fails

    def after_val(self, runner: Runner) -> None:
        """Turns it on again."""
        torch.compiler.set_stance("default")
