"""Clients in a process of their own, so that their work is not the server's: what is common to all such processes."""

import asyncio
import contextlib
import multiprocessing
import resource
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol


class Client(Protocol):
    """What runs in the process."""

    async def open(self, host: str, port: int, viewer_ids: Sequence[int]) -> None:
        """Connect every viewer."""

    async def answer(self, work: Any) -> Any:
        """Do what the parent asks for."""


class ClientProcess:
    """A process with the client that ``make`` makes: call ``open``, ``ask`` any number of times, ``close``. All of
    them block. ``make`` and what is asked and answered must be picklable; None cannot be asked."""

    def __init__(self, make: Callable[[], Client], host: str, port: int, viewer_ids: Sequence[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, make, host, port, list(viewer_ids)), daemon=True)

    def open(self) -> None:
        """Start the process and connect every viewer.

        Raises:
            ConnectionError: the server refused a connection.
        """
        self._process.start()
        problem = self._receive()
        if problem is not None:
            raise ConnectionError(str(problem))

    def ask(self, work: Any) -> Any:
        """The client's answer.

        Raises:
            ConnectionError: the process ended.
        """
        self._pipe.send(work)
        return self._receive()

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._pipe.send(None)
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def _receive(self) -> Any:
        while not self._pipe.poll(0.5):
            if not self._process.is_alive():
                raise ConnectionError("the clients' process ended")
        return self._pipe.recv()


def _main(pipe: Connection, make: Callable[[], Client], host: str, port: int, viewer_ids: Sequence[int]) -> None:
    import uvloop

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(_serve(pipe, make(), host, port, viewer_ids))


async def _serve(pipe: Connection, client: Client, host: str, port: int, viewer_ids: Sequence[int]) -> None:
    try:
        await client.open(host, port, viewer_ids)
    except (OSError, TimeoutError) as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(None)
    # ``recv`` runs in a thread, so that pings are answered meanwhile.
    while (work := await asyncio.to_thread(pipe.recv)) is not None:
        pipe.send(await client.answer(work))
