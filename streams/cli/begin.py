"""The first and last lines of every command: SIGTERM and Ctrl-C end it quietly, also while modules are imported.

This file imports only what Python itself has loaded already.
"""

import os
import signal


def main() -> None:
    """Entry point of ``murmuration``."""
    _end_on_signals()
    from streams.cli.main import main as run_command

    try:
        run_command()
    finally:
        _end_on_signals()


def _end_on_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os._exit(128 + number))
