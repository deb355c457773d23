"""Data elements that MMEngine and the host libraries lack."""

from __future__ import annotations

from mmengine.structures import BaseDataElement


class AnomalyDataSample(BaseDataElement):
    """What is known and predicted of one image in anomaly detection.

    Metainfo: ``img_path``, ``ori_shape`` (height, width), ``img_shape``, ``defect_type`` (``good``
    or the name of the defect), and ``not_inspected``, the reason, where it could not be read.

    Fields, each absent where it is not known; maps have the original size of the image:

    - ``gt_label``: int64 scalar, 0 for a good image, 1 for a defective one.
    - ``gt_mask``: :class:`mmengine.structures.PixelData`, 1 x H x W uint8; 0 good, 1 defective, 255
      does not count. A good image needs none.
    - ``roi``: ``PixelData``, 1 x H x W uint8; 1 where pixels count.
    - ``pred_score``: float32 scalar, the image's distance from the good ones, 0 or more.
    - ``pred_threshold``: float32 scalar, the distance from which an image is NG; NaN for none.
    - ``pred_ng_score``: float32 scalar in [0, 1], 0.5 at the threshold; NaN without one.
    - ``pred_map``: ``PixelData``, 1 x H x W float32, the distance of each pixel; 0 where pixels do
      not count.
    """
