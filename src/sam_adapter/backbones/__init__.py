"""Base models that adapters are made for; one file a family."""

from .base import Backbone
from .families import load_backbone

__all__ = ["Backbone", "load_backbone"]
