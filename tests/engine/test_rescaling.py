from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch.nn import functional

from aicore.engine.rescaling import rescale_batch
from aicore.errors import ConfigError

OLD, NEW = (32, 64), (48, 32)  # height x 1.5, width x 0.5


def images(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, *OLD, generator=torch.Generator().manual_seed(0))


def rescaled(sample: BaseDataElement) -> BaseDataElement:
    (result,) = rescale_batch(images(), [sample], NEW)[1]
    assert type(result) is type(sample)
    return result


# ---- images ----


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_are_interpolated_and_keep_their_memory_format(layout):
    batch = images(2).to(memory_format=layout)
    result, data_samples = rescale_batch(batch, None, NEW)

    reference = functional.interpolate(images(2), NEW, mode="bilinear", align_corners=False)
    torch.testing.assert_close(result, reference)
    assert result.is_contiguous(memory_format=layout)
    assert data_samples is None


def test_a_batch_that_has_the_size_already_is_the_same_objects():
    batch, samples = images(), [DataSample()]
    result = rescale_batch(batch, samples, OLD)
    assert result[0] is batch
    assert result[1] is samples


# ---- maps of pixels ----


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64, torch.bool])
@pytest.mark.parametrize("size", [(48, 32), (7, 200), (33, 65)])
def test_labels_of_pixels_are_those_of_the_nearest(kind, size):
    labels = torch.randint(0, 256, (2, *OLD)).to(kind)
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
    result = rescale_batch(images(), [sample], size)[1][0].gt_sem_seg.data

    reference = functional.interpolate(labels[None].double(), size, mode="nearest-exact")[0]
    assert result.dtype == kind
    assert torch.equal(result.double(), reference)


def test_no_new_label_values_arise():
    labels = torch.tensor([0, 3, 255])[torch.randint(0, 3, (1, *OLD))]
    result = rescaled(SegDataSample(gt_sem_seg=PixelData(data=labels))).gt_sem_seg.data
    assert set(result.unique().tolist()) == {0, 3, 255}


def test_labels_do_not_move_against_the_image():
    # The middle of the rows that are set is a quarter of the height, before and after.
    labels = torch.zeros(1, *OLD, dtype=torch.long)
    labels[:, 4:12] = 1
    for height in (16, 24, 48, 64, 96):
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        result = rescale_batch(images(), [sample], (height, 64))[1][0].gt_sem_seg.data
        rows = result[0, :, 0].nonzero() + 0.5
        assert rows.mean() == pytest.approx(height / 4, abs=1e-5)


def test_measurements_are_interpolated():
    depth = torch.rand(1, *OLD)
    result = rescaled(SegDataSample(gt_depth_map=PixelData(data=depth))).gt_depth_map.data
    reference = functional.interpolate(depth[None], NEW, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(result, reference)


def test_several_maps_in_one_element_and_numpy_arrays():
    element = PixelData(mask=np.eye(*OLD, dtype=np.uint8)[None], score=torch.rand(1, *OLD))
    result = rescaled(BaseDataElement(anything=element)).anything
    assert isinstance(result.mask, np.ndarray)
    assert result.mask.shape == result.score.shape == (1, *NEW)


def test_a_map_of_another_size_than_the_batch_keeps_its_proportion():
    element = PixelData(data=torch.zeros(1, 8, 16, dtype=torch.long))
    assert rescaled(SegDataSample(gt_sem_seg=element)).gt_sem_seg.shape == (12, 8)


# ---- instances ----


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_boxes_as_tensors(kind):
    boxes = torch.tensor([[2, 4, 60, 30], [0, 0, 64, 32]], dtype=kind)
    sample = DetDataSample(
        gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([1, 0])),
        ignored_instances=InstanceData(bboxes=boxes[:0]),
    )
    result = rescaled(sample)

    assert result.gt_instances.bboxes.tolist() == [[1, 6, 30, 45], [0, 0, 32, 48]]
    assert result.gt_instances.labels.tolist() == [1, 0]
    assert result.ignored_instances.bboxes.shape == (0, 4)


def test_boxes_of_mmdet():
    boxes = HorizontalBoxes([[2.0, 4.0, 60.0, 30.0]])
    result = rescaled(DetDataSample(gt_instances=InstanceData(bboxes=boxes))).gt_instances.bboxes
    assert isinstance(result, HorizontalBoxes)
    assert result.tensor.tolist() == [[1, 6, 30, 45]]
    assert boxes.tensor.tolist() == [[2, 4, 60, 30]]


def test_bitmap_masks_of_mmdet():
    masks = np.zeros((2, *OLD), np.uint8)
    masks[0, :16, 32:] = 1
    sample = DetDataSample(gt_instances=InstanceData(masks=BitmapMasks(masks, *OLD)))
    result = rescaled(sample).gt_instances.masks

    expected = np.zeros((2, *NEW), np.uint8)
    expected[0, :24, 16:] = 1
    assert (result.height, result.width) == NEW
    assert np.array_equal(result.masks, expected)


def test_polygon_masks_of_mmdet():
    polygon = np.array([2.0, 4, 60, 4, 60, 30])
    masks = PolygonMasks([[polygon]], *OLD)
    result = rescaled(DetDataSample(gt_instances=InstanceData(masks=masks))).gt_instances.masks
    assert (result.height, result.width) == NEW
    assert result.masks[0][0].tolist() == [1, 6, 30, 6, 30, 45]
    assert polygon.tolist() == [2, 4, 60, 4, 60, 30]


@pytest.mark.parametrize("count", [0, 2])
def test_masks_as_tensors(count):
    masks = torch.zeros(count, *OLD)
    masks[:, :16, 32:] = 1
    result = rescaled(DetDataSample(gt_instances=InstanceData(masks=masks))).gt_instances.masks
    expected = torch.zeros(count, *NEW)
    expected[:, :24, 16:] = 1
    assert torch.equal(result, expected)


@pytest.mark.parametrize("as_array", [False, True])
def test_key_points(as_array):
    points = torch.tensor([[[2.0, 4.0], [60.0, 30.0]]])
    points = points.numpy() if as_array else points
    result = rescaled(BaseDataElement(people=InstanceData(keypoints=points))).people.keypoints
    assert type(result) is type(points)
    assert result.tolist() == [[[1, 6], [30, 45]]]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("bboxes", torch.zeros(2, 5), "bboxes of shape (2, 5)"),
        ("keypoints", torch.zeros(2, 4, 3), "keypoints of shape (2, 4, 3)"),
        ("masks", [None, None], "masks of type list"),
    ],
)
def test_instances_of_an_unknown_form_are_refused(name, value, told):
    sample = DetDataSample(gt_instances=InstanceData(**{name: value}))
    with pytest.raises(ConfigError, match="MultiScaleHook cannot rescale") as error:
        rescaled(sample)
    assert told in str(error.value)


# ---- the rest of a data sample ----


def test_shapes_and_scale_factor():
    shapes = dict(
        img_shape=(30, 60, 3),
        pad_shape=(31, 64),
        batch_input_shape=torch.Size(OLD),
        scale_factor=(2.0, 0.5),
        ori_shape=(60, 30),
        img_path="a.png",
    )
    result = rescaled(DetDataSample(metainfo=shapes))
    assert result.metainfo == dict(
        img_shape=(45, 30, 3),
        pad_shape=(46, 32),  # 46.5, rounded to even
        batch_input_shape=NEW,
        scale_factor=(1.0, 0.75),
        ori_shape=(60, 30),
        img_path="a.png",
    )
    assert rescaled(DetDataSample(metainfo=dict(img_id=1))).metainfo == dict(img_id=1)


def test_labels_of_whole_images_stay():
    sample = DataSample(metainfo=dict(num_classes=3)).set_gt_label(2)
    sample.set_field(LabelData(label=torch.tensor([1])), "other")
    result = rescaled(sample)
    assert result.gt_label.tolist() == [2]
    assert result.other.label.tolist() == [1]


def test_what_is_no_data_sample_stays():
    classes = torch.tensor([0, 2])
    assert rescale_batch(images(2), classes, NEW)[1] is classes
    assert rescale_batch(images(2), ["a", 1], NEW)[1] == ["a", 1]


def test_the_given_data_samples_stay_as_they_are():
    shapes = dict(img_shape=OLD, scale_factor=(1.0, 1.0))
    sample = DetDataSample(
        metainfo=shapes,
        gt_instances=InstanceData(bboxes=torch.tensor([[2.0, 4, 60, 30]])),
        gt_sem_seg=PixelData(sem_seg=torch.zeros(1, *OLD, dtype=torch.long)),
    )
    for _ in range(2):  # the second time would find what the first left behind
        results = rescale_batch(images(2), [sample, sample], NEW)[1]
        for result in results:
            assert result.gt_instances.bboxes.tolist() == [[1, 6, 30, 45]]
            assert result.gt_sem_seg.shape == NEW
            assert result.metainfo == dict(img_shape=NEW, scale_factor=(0.5, 1.5))
    assert sample.metainfo == shapes
    assert sample.gt_instances.bboxes.tolist() == [[2, 4, 60, 30]]
    assert sample.gt_sem_seg.shape == OLD


# ---- what the host libraries hand over ----


def preprocessed(preprocessor, *samples: BaseDataElement) -> tuple[torch.Tensor, list]:
    """Two pictures of 30 x 60 and 32 x 50, made into one batch of 32 x 64, then 48 x 32."""
    pictures = [torch.zeros(3, 30, 60, dtype=torch.uint8), torch.zeros(3, 32, 50)]
    batch = preprocessor(dict(inputs=pictures, data_samples=list(samples)), True)
    assert batch["inputs"].shape[-2:] == OLD
    return rescale_batch(batch["inputs"], batch["data_samples"], NEW)


@pytest.mark.parametrize("as_tensor", [True, False])
def test_a_batch_of_mmdet(as_tensor):
    def sample(height: int, width: int) -> DetDataSample:
        masks = BitmapMasks(np.ones((1, height, width), np.uint8), height, width)
        boxes = HorizontalBoxes([[0.0, 0.0, width, height]])
        return DetDataSample(
            metainfo=dict(img_shape=(height, width), scale_factor=(1.0, 1.0)),
            gt_instances=InstanceData(bboxes=boxes, masks=masks, labels=torch.zeros(1)),
            gt_sem_seg=PixelData(sem_seg=torch.ones(1, height, width, dtype=torch.uint8)),
        )

    preprocessor = DetDataPreprocessor(
        pad_size_divisor=32, pad_mask=True, pad_seg=True, boxtype2tensor=as_tensor
    )
    batch, (first, second) = preprocessed(preprocessor, sample(30, 60), sample(32, 50))

    assert batch.shape == (2, 3, *NEW)
    assert (first.img_shape, second.img_shape) == ((45, 30), (48, 25))
    assert first.batch_input_shape == second.batch_input_shape == first.pad_shape == NEW
    boxes = first.gt_instances.bboxes
    assert isinstance(boxes, torch.Tensor) is as_tensor
    assert (boxes if as_tensor else boxes.tensor).tolist() == [[0, 0, 30, 45]]
    assert first.gt_instances.masks.masks.sum() == 30 * 45
    assert (second.gt_sem_seg.sem_seg == 1).sum() == 48 * 25
    assert second.scale_factor == (0.5, 1.5)


def test_a_batch_of_mmseg():
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, *shape, dtype=torch.long)))
        for shape in ((30, 60), (32, 50))
    ]
    preprocessor = SegDataPreProcessor(size=OLD, pad_val=0, seg_pad_val=255)
    batch, (first, second) = preprocessed(preprocessor, *samples)

    assert batch.shape == (2, 3, *NEW)
    assert (first.gt_sem_seg.data == 1).sum() == 30 * 45
    assert (second.gt_sem_seg.data == 1).sum() == 48 * 25
    assert (second.gt_sem_seg.data == 255).sum() == 48 * 7
    assert first.pad_shape == NEW


def test_a_batch_of_mmpretrain():
    samples = [
        DataSample(metainfo=dict(img_shape=shape)).set_gt_label(index)
        for index, shape in enumerate(((30, 60), (32, 50)))
    ]
    batch, results = preprocessed(ClsDataPreprocessor(pad_size_divisor=32), *samples)

    assert batch.shape == (2, 3, *NEW)
    assert [sample.gt_label.tolist() for sample in results] == [[0], [1]]
    assert [sample.img_shape for sample in results] == [(45, 30), (48, 25)]
