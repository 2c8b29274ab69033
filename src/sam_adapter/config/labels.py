"""What the values of label maps mean that are the same for every set."""

FOREGROUND = 1
"""Label of what is annotated, where there are no classes; with classes their labels begin with it."""
VOID = 255
"""Label of pixels about which an annotation says nothing; no object has this number."""
ALL_OBJECTS = -1
"""What a query asks for that is answered by the foreground of all objects."""
CORES = -2
"""What a query asks for that is answered by the inner parts of all objects, which keeps those apart that touch."""


def objects_of_class(label: int) -> int:
    """What a query asks for that is answered by all objects of the class with a label, which is 1 or more."""
    return CORES - label
