"""The signals that tell a process to stop."""

import asyncio
import signal


async def until_stopped() -> str:
    """Wait for SIGTERM or SIGINT; returns its name."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[str] = loop.create_future()

    def stop(name: str) -> None:
        if not stopped.done():
            stopped.set_result(name)

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop, number.name)
    try:
        return await stopped
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
