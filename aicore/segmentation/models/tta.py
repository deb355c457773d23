"""Test-time augmentation: the mean of the scores of several views of an image."""

from __future__ import annotations

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from aicore.registry import MODELS


@MODELS.register_module()
class SegmentationTTA(BaseTTAModel):
    """Averages the softmax scores of several views; the scores reported are the averaged ones.

    See :class:`mmengine.model.BaseTTAModel` for the arguments.
    """

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Returns one data sample for the views of each image.

        Args:
            data_samples_list: The views of each image, with ``seg_logits`` turned back.
        """
        return [_merge(views) for views in data_samples_list]


def _merge(views: list[SegDataSample]) -> SegDataSample:
    score = sum(view.seg_logits.data.softmax(dim=0) for view in views) / len(views)
    merged = views[0].clone()
    merged.seg_logits = PixelData(data=score.log())
    merged.pred_sem_seg = PixelData(data=score.argmax(dim=0, keepdim=True))
    return merged
