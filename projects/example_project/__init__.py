"""A head and a hook of one's own; importing this package registers both."""

from projects.example_project.cosine_head import CosineHead
from projects.example_project.freeze_backbone_hook import FreezeBackboneHook

__all__ = ["CosineHead", "FreezeBackboneHook"]
