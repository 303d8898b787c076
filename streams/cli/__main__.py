"""``python -m streams.cli``: the command ``murmuration`` for when its script is not on the path."""

from streams.cli.begin import main

if __name__ == "__main__":
    main()
