"""Where the pairs of a data set come from: the one place that chooses between the sources of annotations."""

from ..config.options import DataOptions
from .folders import Listing, list_pairs


def listing_of(options: DataOptions) -> Listing:
    """The pairs that a command's options name, read from the source that they mean.

    A source is a function that gives a `Listing`. What follows (the data doctor, training, scores) sees its records and
    their files alone.

    Args:
        options: Of any command that reads images and masks.

    Returns:
        The pairs, and all that has no partner or more than one.

    Raises:
        ConfigError: If there is no such source, or it is empty.
    """
    return list_pairs(options.images, options.masks, options.mask_pattern)
