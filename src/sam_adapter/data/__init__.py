"""From folders of pictures to batches, and every file's faults on the way."""
