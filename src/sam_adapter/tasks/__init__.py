"""What is asked of a picture and how answers are scored."""
