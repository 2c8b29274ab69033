"""What travels between rooms: a `Query` about an image, a `Sample`, a `Batch` of them, and the model's `Output`.

Everything between the files and the scores is a list of queries: one question about one image each.
"""

from ..config.labels import FOREGROUND, VOID
from .annotation import Annotation
from .batch import Batch, Sample
from .given_mask import GivenMask
from .model_output import EncodedImage, Output
from .query import Prompt, Query
from .window import Size, Window

__all__ = [
    "FOREGROUND",
    "VOID",
    "Annotation",
    "Batch",
    "EncodedImage",
    "GivenMask",
    "Output",
    "Prompt",
    "Query",
    "Sample",
    "Size",
    "Window",
]
