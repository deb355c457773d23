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
from aicore.segmentation.models.tta import SegmentationTTA

__all__ = [
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
