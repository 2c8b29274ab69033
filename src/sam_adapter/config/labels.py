"""What the values of label maps mean that are the same for every set."""

FOREGROUND = 1
"""Label of what is annotated, where there are no classes; with classes their labels begin with it."""
VOID = 255
"""Label of pixels about which an annotation says nothing."""
