"""The update: its precision, accumulated, clipped and finite gradients."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce, all_reduce_params
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper as BaseOptimWrapper
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from aicore.engine.processor import bf16_instructions
from aicore.errors import CheckpointError, ConfigError, did_you_mean
from aicore.registry import OPTIM_WRAPPERS

_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")
_CLIPPING: dict[str, tuple[Callable[..., Any], str]] = {  # by type: function, required argument
    "norm": (clip_grad_norm_, "max_norm"),
    "value": (clip_grad_value_, "clip_value"),
}


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(BaseOptimWrapper):
    """MMEngine's wrapper with mixed precision on every device, safe and exactly resumable.

    - **Precision.** ``amp`` runs the forward pass under autocast; weights, gradients and the
      update stay float32.
    - **Accumulation.** Of ``accumulative_counts`` iterations, the mean of their gradients makes
      one update; the last iterations of the training make one of their own, however few they
      are. Gradients that wait for their update are part of :meth:`state_dict`, so that a resumed
      training continues to the last bit.
    - **Safety.** An update whose gradients are infinite or NaN is skipped: weights and the
      optimiser's state stay as they are, the gradients are dropped, and a warning tells the count.
      All ranks hold the same gradients after DDP's all-reduce, so all of them skip or none. Also
      skipped is an update whose gradients' norm exceeds the range of float32.

    Args:
        optimizer: The optimiser.
        accumulative_counts: Iterations an update, at least 1.
        clip_grad: ``dict(max_norm=1.0)`` with the other arguments of
            :func:`torch.nn.utils.clip_grad_norm_`, or ``dict(type='value', clip_value=0.1)`` with
            those of :func:`torch.nn.utils.clip_grad_value_`; None: no clipping. The norm before
            clipping is logged as ``grad_norm``.
        amp: False for float32. True for the best there is: bfloat16, on a CUDA device without
            bfloat16 of its own float16, and on a CPU without it float32, which is faster there.
            ``'bfloat16'``, or ``'float16'`` with dynamic loss scaling (Micikevicius et al., Mixed
            Precision Training, 2018), on CUDA only.

    Raises:
        ConfigError: An argument has a value that is not among these.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: dict[str, Any] | None = None,
        amp: bool | str = False,
    ) -> None:
        if not isinstance(accumulative_counts, int) or accumulative_counts < 1:
            raise ConfigError(
                f"optim_wrapper.accumulative_counts={accumulative_counts!r}, expected an integer "
                "of at least 1."
            )
        self.clip_type = _clip_type(clip_grad)
        # MMEngine takes the type out of the dict.
        super().__init__(optimizer, accumulative_counts, clip_grad and dict(clip_grad))
        self.device_type = next(self._parameters()).device.type
        self.dtype = autocast_dtype(amp, self.device_type)
        """Type that autocast computes in; None without autocast."""
        self.skipped_updates = 0
        """Updates skipped since the start of the process because of gradients not finite."""
        scaled = self.dtype == torch.float16
        self._scaler = torch.amp.GradScaler(self.device_type) if scaled else None

    @property
    def mid_accumulation(self) -> bool:
        """Whether gradients wait for an update: this is not a boundary between two updates."""
        return not self.should_update()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Runs a forward pass: with autocast, and DDP synchronising before an update only."""
        with super().optim_context(model):
            if self.dtype is None:
                yield
            else:
                with torch.autocast(self.device_type, self.dtype):
                    yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Adds the gradients of a scalar loss; see :meth:`torch.Tensor.backward`."""
        super().backward(loss if self._scaler is None else self._scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clips the gradients and updates the weights, unless a gradient is not finite."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
            if self.clip_grad_kwargs:
                self._clip()
            # It skips by itself, as is usual while it looks for the largest scale.
            self._scaler.step(self.optimizer, **kwargs)
            self._scaler.update()
        elif self._clip():
            self.optimizer.step(**kwargs)
        else:
            self._report_skipped()

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Sets the counters of the accumulation; the Runner calls it after resuming.

        Args:
            model: The model.
            init_counts: Iterations done so far.
            max_counts: Iterations of the whole training.
        """
        # MMEngine warns of lost gradients wherever it does not begin at a boundary.
        restored = any(parameter.grad is not None for parameter in self._parameters())
        super().initialize_count_status(model, 0 if restored else init_counts, max_counts)
        self._inner_count = init_counts

    def synchronise(self) -> None:
        """Gives all ranks the mean of their waiting gradients; to be called by all of them.

        Before an update each rank holds gradients of its own, while one rank alone writes the
        checkpoint. Called before a checkpoint amid an accumulation, this makes it hold what all
        ranks continue with; the update that follows is the same up to rounding. Without several
        ranks, or at a boundary, it does nothing.
        """
        if not self.mid_accumulation:
            return
        parameters = list(self._parameters())
        # A part of the model can have had no share in this rank's batch, but in another's.
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        all_reduce(present, op="max")
        taken = [p for p, has in zip(parameters, present.tolist(), strict=True) if has]
        for parameter in taken:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        all_reduce_params([parameter.grad for parameter in taken], op="mean")

    def state_dict(self) -> dict[str, Any]:
        """Returns the optimiser's state, the loss scaler's, and the waiting gradients.

        The latter are there amid an accumulation only. With several ranks they are this rank's:
        see :meth:`synchronise`.
        """
        state = super().state_dict()
        state["optimizer_type"] = type(self.optimizer).__name__
        if self._scaler is not None:
            state["loss_scaler"] = self._scaler.state_dict()
        if self.mid_accumulation:
            state["pending"] = {
                "accumulative_counts": self._accumulative_counts,
                "scale": self._scale(),
                "gradients": {
                    index: parameter.grad
                    for index, parameter in enumerate(self._parameters())
                    if parameter.grad is not None
                },
            }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` or MMEngine's wrappers returned.

        The precision may have changed since: a loss scaler without a state starts anew, a state
        without a scaler is left out.

        Raises:
            CheckpointError: The state is of another optimiser or of other parameter groups.
        """
        state = dict(state_dict)
        scaler_state = state.pop("loss_scaler", None)
        pending = state.pop("pending", None)
        own = type(self.optimizer).__name__
        before = state.pop("optimizer_type", own)
        if before != own:
            raise CheckpointError(
                f"the optimiser's state in the checkpoint is of {before}, the config has {own}. "
                "Resume with the optim_wrapper it was trained with, or start from its weights "
                "alone with --load-from."
            )
        try:
            super().load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(
                "the optimiser's state in the checkpoint is of other parameter groups than those "
                f"of the config ({error}). Resume with the optim_wrapper and the model it was "
                "trained with, or start from its weights alone with --load-from."
            ) from error
        self._require_shapes()
        if self._scaler is not None and scaler_state:
            self._scaler.load_state_dict(scaler_state)
        if pending is not None:
            self._restore(pending)

    def _require_shapes(self) -> None:
        """Raises for a moment of another shape than its parameter: a fused kernel ends in a crash.

        Raises:
            CheckpointError: There is one.
        """
        if not type(self.optimizer).__module__.startswith("torch."):
            return  # some of timm's keep one number for a whole weight
        for parameter in self._parameters():
            for name in _MOMENTS:
                moment = self.optimizer.state.get(parameter, {}).get(name)
                shape = getattr(moment, "shape", None)
                if moment is not None and shape != parameter.shape:
                    raise CheckpointError(
                        f"the optimiser's state in the checkpoint does not fit: {name} of a weight "
                        f"of shape {tuple(parameter.shape)} is "
                        f"{f'of {tuple(shape)}' if shape else repr(moment)}. The file was "
                        "changed: take the one that the training saved."
                    )

    def _parameters(self) -> Iterator[nn.Parameter]:
        for group in self.optimizer.param_groups:
            yield from group["params"]

    def _scale(self) -> float:
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    def _restore(self, pending: dict[str, Any]) -> None:
        if pending["accumulative_counts"] != self._accumulative_counts:
            print_log(
                f"The checkpoint holds gradients of an accumulation over "
                f"{pending['accumulative_counts']} iterations, now it is "
                f"{self._accumulative_counts}: they are left out.",
                logger="current",
                level=logging.WARNING,
            )
            return
        parameters = list(self._parameters())
        for index, gradient in pending["gradients"].items():
            # Like the parameter in device and memory format, a copy of the checkpoint's own.
            parameters[index].grad = torch.empty_like(parameters[index]).copy_(gradient)
            if pending["scale"] != self._scale():
                parameters[index].grad.mul_(self._scale() / pending["scale"])

    def _clip(self) -> bool:
        """Clips the gradients as configured; if they are not finite, leaves them and says so."""
        options = self.clip_grad_kwargs or {}
        parameters = list(self._parameters())
        # One norm for both purposes: it reads every gradient once.
        norm = get_total_norm(
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            options.get("norm_type", 2.0),
            options.get("error_if_nonfinite", False),
            options.get("foreach"),
        )
        total = float(norm)
        if not math.isfinite(total):
            return False
        if self.clip_type == "norm":
            clip_grads_with_norm_(parameters, options["max_norm"], norm, options.get("foreach"))
            self.message_hub.update_scalar("train/grad_norm", total)
        elif self.clip_type == "value":
            clip_grad_value_(parameters, **options)
        return True

    def _report_skipped(self) -> None:
        self.skipped_updates += 1
        count = self.skipped_updates
        if count & (count - 1) == 0:  # 1, 2, 4, 8 ...: a training that breaks does not fill the log
            print_log(
                f"The gradients of iteration {self._inner_count} are infinite or NaN: this update "
                f"is skipped, {count} so far. If there are many, lower the learning rate or set "
                "clip_grad=dict(max_norm=10).",
                logger="current",
                level=logging.WARNING,
            )


def autocast_dtype(amp: bool | str, device_type: str) -> torch.dtype | None:
    """Returns the type that autocast computes in; None for no autocast.

    Args:
        amp: As for :class:`OptimWrapper`.
        device_type: ``cpu``, ``cuda`` ...

    Raises:
        ConfigError: ``amp`` has another value.
    """
    if amp is False:
        return None
    if amp is True:
        if device_type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if native else torch.float16
        if device_type == "cpu" and bf16_instructions() == []:
            print_log(
                "amp = True: this processor has no instructions for bfloat16 and would be slower "
                "with it, so the training stays in float32. amp = 'bfloat16' insists.",
                logger="current",
            )
            return None
        return torch.bfloat16
    if amp == "bfloat16":
        return torch.bfloat16
    if amp != "float16":
        raise ConfigError(
            f"optim_wrapper.amp={amp!r}, expected False, True, 'bfloat16' or 'float16'."
        )
    if device_type != "cuda":
        raise ConfigError(
            f"optim_wrapper.amp='float16' needs a CUDA device, the model is on {device_type!r}. "
            "Use amp='bfloat16', or amp=True for what the device does best."
        )
    return torch.float16


def _clip_type(clip_grad: dict[str, Any] | None) -> str | None:
    if clip_grad is None:
        return None
    if not isinstance(clip_grad, dict):
        raise ConfigError(
            f"optim_wrapper.clip_grad={clip_grad!r}, expected a dict, e.g. dict(max_norm=1.0)."
        )
    kind = clip_grad.get("type", "norm")
    if kind not in _CLIPPING:
        raise ConfigError(
            f"optim_wrapper.clip_grad.type={kind!r}, expected {' or '.join(map(repr, _CLIPPING))}."
        )
    function, required = _CLIPPING[kind]
    known = [name for name in inspect.signature(function).parameters if name != "parameters"]
    for key in clip_grad:
        if key not in ("type", *known):
            raise ConfigError(
                f"optim_wrapper.clip_grad.{key} is not known.{did_you_mean(key, known)} "
                f"Known: type, {', '.join(known)}."
            )
    if not isinstance(clip_grad.get(required), int | float):
        raise ConfigError(
            f"optim_wrapper.clip_grad={clip_grad!r}: {required} is missing or not a number."
        )
    return kind
