"""Segmentation models that adapters are made for; one file a family."""

from .sam import SamBackbone, load_backbone

__all__ = ["SamBackbone", "load_backbone"]
