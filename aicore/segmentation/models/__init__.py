"""The models of semantic segmentation: encoder-decoder, heads, losses."""

from aicore.segmentation.models.encoder_decoder import EncoderDecoder, SegmentationPreprocessor
from aicore.segmentation.models.heads import DeepLabV3PlusHead, UNetHead, UNetPlusPlusHead
from aicore.segmentation.models.losses import (
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    LovaszLoss,
    TverskyLoss,
)
from aicore.segmentation.models.norm import BatchNorm
from aicore.segmentation.models.tta import SegmentationTTA

__all__ = [
    "BatchNorm",
    "BoundaryLoss",
    "CrossEntropyLoss",
    "DeepLabV3PlusHead",
    "DiceLoss",
    "EncoderDecoder",
    "LovaszLoss",
    "SegmentationPreprocessor",
    "SegmentationTTA",
    "TverskyLoss",
    "UNetHead",
    "UNetPlusPlusHead",
]
