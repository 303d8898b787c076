"""``python -m murmuration``."""

from murmuration.streams.cli import main

if __name__ == "__main__":
    main()
