"""Methods of adaptation; one file or folder a method."""
