"""What a network puts out, before anything is concluded from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


def mark_not_finite(samples: Sequence[BaseDataElement], outputs: Iterable[Tensor]) -> None:
    """Marks images as not inspected whose raw output holds NaN or infinity.

    Nothing can be concluded from it: the largest of NaN is class 0, no NaN is above a threshold,
    and so a defective part would pass for a good one.

    Args:
        samples: One for each image; ``not_inspected`` gets the reason.
        outputs: What the network put out for each, of any shape: logits, boxes and scores, ...
    """
    finite = torch.stack([output.isfinite().all() for output in outputs]).tolist()
    for sample, is_finite in zip(samples, finite, strict=True):
        if not is_finite and sample.get("not_inspected") is None:
            reason = (
                "the network's output for it holds NaN or infinity: its numbers overflow, in half "
                "precision say, or the image holds values that are none"
            )
            sample.set_metainfo({"not_inspected": reason})
