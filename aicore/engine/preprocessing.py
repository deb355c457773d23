"""What the data preprocessors of tasks whose images differ in size share."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseDataPreprocessor


class SizesApart(BaseDataPreprocessor):
    """Leaves test images of different sizes apart, which host libraries pad to one size.

    A prediction then depends on its image alone, not on those it shares a batch with. A task's
    preprocessor inherits from this class first and from its host library's second.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalises a batch and puts it on the device.

        Args:
            data: ``inputs``, one C x H x W tensor an image, and ``data_samples``.
            training: Whether images and labels are padded to one size.

        Returns:
            ``data_samples``, and ``inputs``: N x C x H x W; of different sizes in a test a list of
            C x H x W instead.
        """
        images = data["inputs"]
        if training or len({image.shape for image in images}) == 1:
            return super().forward(data, training)
        samples = data.get("data_samples")
        parts = [
            super(SizesApart, self).forward(
                {"inputs": [image], "data_samples": samples and [samples[index]]}
            )
            for index, image in enumerate(images)
        ]
        return {
            "inputs": [part["inputs"][0] for part in parts],
            "data_samples": samples and [part["data_samples"][0] for part in parts],
        }
