"""Albumentations as one transform, for images, masks and boxes with their labels.

Albumentations is imported where it is used: it takes most of a second, and most tasks' configs
begin without it.
"""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from pydantic import ValidationError

from aicore.errors import ConfigError, DataError, did_you_mean
from aicore.registry import TRANSFORMS

_COMPOSITIONS = ("OneOf", "RandomOrder", "Sequential", "SomeOf")
_NOT_AUGMENTATIONS = ("FromFloat", "Normalize", "ToFloat", "ToTensor3D", "ToTensorV2")
_GIVEN_KEYS = {"image", "mask", "masks", "bboxes"}
_LABEL_KEYS = ("gt_bboxes_labels", "gt_ignore_flags")


@TRANSFORMS.register_module()
class Albu(BaseTransform):
    """Augments image, masks and boxes of a record alike with Albumentations.

    Every random number comes from a seed drawn from numpy's global state at call time, which
    MMEngine seeds in each worker: the same seed gives the same samples. Colour images are handed
    over as RGB, float ones on the scale 0 to 1; both come back as they were. Some of
    Albumentations' transforms (``CLAHE``, ``Equalize``, ``Posterize``, ``ImageCompression``, ...)
    work on 8 bits and round the grey levels of a 16-bit image.

    Keys of the record, all but ``img`` optional: ``img`` (HxW or HxWx3 in BGR order; uint8, or
    float32 on the scale 0 to 255), ``gt_seg_map``, ``mask`` and those named in ``seg_fields`` (HxW
    of whole numbers, moved without interpolation; where nothing is known they get the transform's
    ``fill_mask``, 0 by default), ``gt_bboxes`` (``HorizontalBoxes`` or an Nx4 array, x1 y1 x2 y2 in
    pixels) with ``gt_bboxes_labels`` and ``gt_ignore_flags`` of length N. Boxes are clipped to the
    image; those without area are dropped with their labels. ``img_shape`` is set anew.

    Args:
        transforms: One dict for each transform, applied in this order: its name in Albumentations
            as ``type``, and its arguments. ``OneOf``, ``SomeOf``, ``RandomOrder`` and
            ``Sequential`` hold a list of such dicts in ``transforms``.
        min_visibility: Share of a box's area, in [0, 1], that must stay inside the image in each
            transform; a box with less is dropped.

    Raises:
        ConfigError: A name, an argument or a value that Albumentations does not have (when
            built), or a transform that cannot be applied to the record's image.
        DataError: A mask is not of the image's size.

    Example:
        >>> albu = Albu([dict(type="HorizontalFlip", p=1.0)])
        >>> albu(dict(img=np.array([[1, 2, 3]], np.uint8)))["img"]
        array([[3, 2, 1]], dtype=uint8)
    """

    def __init__(self, transforms: Sequence[Mapping], min_visibility: float = 0.1) -> None:
        import albumentations

        _check_share(min_visibility, "min_visibility")
        self.transforms = transforms
        boxes = albumentations.BboxParams(
            "pascal_voc", min_visibility=min_visibility, clip=True, filter_invalid_bboxes=True
        )
        with warnings.catch_warnings():
            # Transforms that move no box are no mistake.
            warnings.filterwarnings("ignore", "Got processor for bboxes")
            self._compose = albumentations.Compose(
                _build_all(transforms, "transforms"), bbox_params=boxes
            )

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Augments the record in place."""
        if "gt_masks" in results:
            raise ConfigError(
                "aicore.Albu cannot move gt_masks: leave with_mask out of LoadAnnotations, or use "
                "the transforms of mmdet."
            )
        mask_keys = _mask_keys(results)
        data: dict[str, Any] = {"image": _to_albumentations(results["img"])}
        if mask_keys:
            # "mask" is the one that transforms such as CropNonEmptyMaskIfExists look at.
            first, *others = [_movable(results[key]) for key in mask_keys]
            data.update(mask=first, masks=others)
        if "gt_bboxes" in results:
            data["bboxes"] = _numbered_boxes(results["gt_bboxes"])

        data = self._apply(data)

        results["img"] = _from_albumentations(data["image"], results["img"].dtype)
        results["img_shape"] = results["img"].shape[:2]
        if mask_keys:
            for key, mask in zip(mask_keys, [data["mask"], *data["masks"]], strict=True):
                results[key] = np.ascontiguousarray(mask, results[key].dtype)
        if "gt_bboxes" in results:
            _set_boxes(results, data["bboxes"])
        return results

    def _apply(self, data: dict[str, Any]) -> dict[str, Any]:
        from albumentations.augmentations.crops.transforms import CropSizeError

        # Albumentations ignores numpy's global state. One generator for all transforms: its own
        # set_random_seed gives each the same stream, so that two flips always flip together.
        seed = np.random.randint(2**31)
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        try:
            return self._compose(**data)
        except (ValueError, TypeError, NotImplementedError, CropSizeError, cv2.error) as error:
            image = data["image"]
            raise ConfigError(
                f"aicore.Albu: Albumentations cannot apply a transform to an image of shape "
                f"{image.shape} ({image.dtype}): {_one_line(error)}"
            ) from error

    def __repr__(self) -> str:
        return f"Albu({self._compose!r})"


def _build_all(specs: Any, where: str) -> list[Any]:
    """Builds a list of Albumentations transforms; ``where`` is its place in the config."""
    if not isinstance(specs, Sequence) or isinstance(specs, str):
        raise ConfigError(
            f"aicore.Albu: {where} is {specs!r}; expected a list such as "
            f"[dict(type='HorizontalFlip', p=0.5)]."
        )
    return [_build(spec, f"{where}[{index}]") for index, spec in enumerate(specs)]


def _build(spec: Any, where: str) -> Any:
    """Builds one Albumentations transform or composition from its dict."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
        raise ConfigError(
            f"aicore.Albu: {where} is {spec!r}; expected a dict such as "
            f"dict(type='HorizontalFlip', p=0.5)."
        )
    arguments = dict(spec)
    name = arguments.pop("type")
    where = f"{where} ({name})"
    factory = _look_up(name, where)
    accepted = list(inspect.signature(factory).parameters)
    for argument in arguments:
        if argument not in accepted:  # Albumentations would only warn
            raise ConfigError(
                f"aicore.Albu: {where} takes no argument {argument!r}."
                f"{did_you_mean(argument, accepted)} It takes: {', '.join(accepted)}."
            )
    if "transforms" in accepted:
        arguments["transforms"] = _build_all(
            arguments.get("transforms"), f"{where.partition(' ')[0]}.transforms"
        )
        _check_share(arguments.get("p", 1.0), f"{where}: p")
    try:
        transform = factory(**arguments)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"aicore.Albu: {where}: {_complaint(error)}") from error
    _check_needs(transform, where)
    return transform


def _look_up(name: str, where: str) -> type:
    """Returns the class of a transform or composition by its name."""
    import albumentations

    if name in _NOT_AUGMENTATIONS:
        raise ConfigError(
            f"aicore.Albu: {where} is no augmentation: the model's data_preprocessor normalises, "
            f"and the Pack… transform makes tensors. Remove it."
        )
    known = {
        key: value
        for key, value in vars(albumentations).items()
        if inspect.isclass(value)
        and issubclass(value, (albumentations.ImageOnlyTransform, albumentations.DualTransform))
        and not issubclass(value, albumentations.Transform3D)
        and key not in ("DualTransform", "ImageOnlyTransform", "Lambda")
    }
    known |= {key: getattr(albumentations, key) for key in _COMPOSITIONS}
    if name not in known:
        raise ConfigError(
            f"aicore.Albu: {where}: Albumentations {albumentations.__version__} has no transform "
            f"{name!r}.{did_you_mean(name, known)}"
        )
    return known[name]


def _check_share(value: Any, where: str) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"aicore.Albu: {where} is {value!r}; expected a number in [0, 1].")


def _check_needs(transform: Any, where: str) -> None:
    """Refuses transforms that mix in other images: their data is not in a record."""
    missing = set(getattr(transform, "targets_as_params", ())) - _GIVEN_KEYS
    if missing:
        raise ConfigError(
            f"aicore.Albu: {where} needs {', '.join(sorted(missing))} beside the image, which a "
            f"record does not hold. Remove it."
        )


def _complaint(error: Exception) -> str:
    """Returns what Albumentations says against a transform's arguments, in one line."""
    if isinstance(error, ZeroDivisionError):
        return "its transforms all have p=0, so that none can be chosen."
    if not isinstance(error.__cause__, ValidationError):
        return _one_line(error)
    # An argument that takes several types has an entry for each of them.
    complaints: dict[str, list[str]] = {}
    for item in error.__cause__.errors():
        argument = str(item["loc"][0]) if item["loc"] else ""
        given = f" = {item['input']!r}" if argument and item["type"] != "missing" else ""
        message = item["msg"].removeprefix("Value error, ").rstrip(".")
        complaints.setdefault(argument + given, []).append(message)
    details = [(head, " / ".join(messages)) for head, messages in complaints.items()]
    return "; ".join(f"{head}: {text}" if head else text for head, text in details) + "."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _to_albumentations(image: np.ndarray) -> np.ndarray:
    if image.dtype not in (np.uint8, np.float32):
        raise ConfigError(
            f"aicore.Albu: img is {image.dtype}; expected uint8, or float32 of 0 to 255. Read "
            f"images with aicore.LoadImage."
        )
    if image.dtype == np.float32:
        image = image / np.float32(255)
    return _swap_red_and_blue(image)


def _from_albumentations(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    image = _swap_red_and_blue(image)
    if dtype == np.float32:
        image = image * np.float32(255)
    return np.ascontiguousarray(image)


def _swap_red_and_blue(image: np.ndarray) -> np.ndarray:
    is_colour = image.ndim == 3 and image.shape[2] == 3
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if is_colour else image


def _mask_keys(results: dict[str, Any]) -> list[str]:
    """Returns the record's keys that hold a mask, after a look at their sizes."""
    keys = dict.fromkeys(["gt_seg_map", "mask", *results.get("seg_fields", ())])
    found = [key for key in keys if results.get(key) is not None]
    for key in found:
        if results[key].shape[:2] != results["img"].shape[:2]:
            raise DataError(
                f"{results.get('img_path') or 'An image array'}: {key} is of shape "
                f"{results[key].shape}, but the image of {results['img'].shape}; both must have "
                f"the same height and width."
            )
    return found


def _movable(mask: np.ndarray) -> np.ndarray:
    """Returns the mask in a type that OpenCV can warp; float32 holds integers up to 2**24."""
    return mask if mask.dtype == np.uint8 else mask.astype(np.float32)


def _numbered_boxes(boxes: Any) -> np.ndarray:
    """Returns boxes as Nx5: x1, y1, x2, y2 in pixels, and their number, to find them again."""
    corners = np.asarray(getattr(boxes, "tensor", boxes), np.float32).reshape(-1, 4)
    return np.column_stack([corners, np.arange(len(corners), dtype=np.float32)])


def _set_boxes(results: dict[str, Any], moved: np.ndarray) -> None:
    """Puts the moved boxes into the record, and the labels of those that are left."""
    boxes = results["gt_bboxes"]
    corners = moved[:, :4].astype(np.float32)
    kept = moved[:, 4:].astype(int).reshape(-1)
    results["gt_bboxes"] = type(boxes)(corners) if hasattr(boxes, "tensor") else corners
    for key in _LABEL_KEYS:
        if key in results:
            results[key] = np.asarray(results[key])[kept]
