from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from aicore.detection.mmdet_data import mmdet_cached_yolox, mmdet_yolox


@pytest.mark.parametrize("build", [mmdet_yolox, mmdet_cached_yolox])
def test_mmdets_pipelines_give_samples_of_the_size(build, tmp_path):
    records = []
    for index in range(8):
        file = str(tmp_path / f"{index}.jpg")
        cv2.imwrite(file, np.full((48, 64, 3), 20 * index, np.uint8))
        box = {"bbox": [8.0, 8.0, 50.0, 40.0], "bbox_label": index, "ignore_flag": 0}
        records.append({"img_path": file, "img_id": index, "instances": [box]})
    np.random.seed(0)

    source = build(Config({"image_size": (64, 96)}), records)
    samples = [source(index) for _ in range(3) for index in range(8)]

    assert {tuple(sample["inputs"].shape) for sample in samples} == {(3, 64, 96)}
    numbers = [set(sample["data_samples"].gt_instances.labels.tolist()) for sample in samples]
    assert max(map(len, numbers)) > 2  # boxes of several images
    assert set.union(*numbers) == set(range(8))
