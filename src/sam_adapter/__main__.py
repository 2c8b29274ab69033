"""``python -m sam_adapter``: the same as the command ``sam-adapter``."""

from .entry import main

if __name__ == "__main__":
    main()
