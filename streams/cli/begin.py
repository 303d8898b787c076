"""The first lines of every command: from here on, SIGTERM and Ctrl-C end it quietly, also while modules are imported.

This file imports only what Python itself has loaded already.
"""

import os
import signal


def main() -> None:
    """Entry point of ``murmuration``."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os._exit(128 + number))
    from streams.cli.main import main as run_command

    run_command()
