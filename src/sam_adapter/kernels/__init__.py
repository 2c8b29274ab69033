"""The fast forms of an encoder block; each equals a plain one."""
