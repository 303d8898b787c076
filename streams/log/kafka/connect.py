"""Starting and stopping aiokafka's clients: with brokers that answer, and in words that name the cause where none does.

aiokafka tries one bootstrap server after the other, waits for each until its time is over, and says of what went wrong
only that it could not connect. So all servers are asked at once first (``probe``).
"""

import asyncio
from collections.abc import Callable
from typing import Any

import aiokafka.client
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from engine.errors import ConfigError
from streams.log.interface import LogUnavailableError
from streams.log.kafka.options import KafkaOptions, last_refusal
from streams.log.kafka.probe import probe
from streams.log.kafka.refusals import describe, hopeless
from streams.process.ending import end_tasks, wait_ended
from streams.process.retry import Retries

_RETRY_S_MAX = 0.3
#: How long a client may take to stop by itself, and how long again after it was cancelled.
_STOP_TIMEOUT_S = 3.0
#: A server that has not answered so long after another one is left out.
_SILENT_S = 0.25


class _MetadataQuestion(MetadataRequest):  # type: ignore[misc]
    """Asks about topics, and makes none.

    aiokafka allows the broker to make a topic that it is asked about (``auto.create.topics.enable``): a reader would
    make a topic again that its operator has just deleted.
    """

    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


# No option of aiokafka's clients says so.
aiokafka.client.MetadataRequest = _MetadataQuestion


async def start(make: Callable[[dict[str, Any]], Any], options: KafkaOptions, *, timeout_s: float) -> Any:
    """Make an aiokafka client and start it; try again until ``timeout_s`` is over, or until that is useless.

    ``make`` is given the options of the client.

    Raises:
        LogUnavailableError: no broker answered, or the brokers refuse us; the message names the address and the cause.
        ConfigError: aiokafka refuses the options.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    retries = Retries("", wait_s_max=_RETRY_S_MAX)
    while True:
        found = await probe(options.client, until=deadline, silent_s=_SILENT_S)
        servers = found.answering or [options.servers]
        try:
            client = make({**options.client, "bootstrap_servers": ",".join(servers)})
        except (ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise ConfigError(f"log.kafka: {error}") from error
        if found.answering:
            cause = await _try_start(client, deadline)
            if cause is None:
                return client
            useless, why = hopeless(cause), describe(cause)
        else:
            await stop(client)
            useless, why = found.useless, found.why
        retry_s = retries.failed(why)
        if useless:
            raise LogUnavailableError(f"log kafka://{options.servers}: {why}")
        if loop.time() + retry_s >= deadline:
            raise LogUnavailableError(
                f"log kafka://{options.servers}: no answer within {timeout_s:g} s; is Kafka running there, "
                f"and is the address right? ({why})"
            )
        await asyncio.sleep(retry_s)


async def _try_start(client: Any, deadline: float) -> BaseException | None:
    """Start the client; where that fails, stop it and return why."""
    last_refusal()
    try:
        async with asyncio.timeout_at(deadline):
            await client.start()
    except (KafkaError, OSError, TimeoutError) as error:
        await stop(client)
        # aiokafka only logs what each server said, and raises that it could not connect.
        return last_refusal() or error
    except BaseException:
        await stop(client)
        raise
    return None


async def stop(client: Any) -> None:
    """Stop an aiokafka client, within a bounded time and whatever state it is in."""
    # If a consumer is stopped before its background task has run once, its stop raises that task's CancelledError.
    await asyncio.sleep(0)
    # The connections are closed separately as well: a client's stop that fails half-way leaves them open.
    for owner in (client, getattr(client, "client", None) or client._client):
        # Each in a separate task: with a broker away, a fetcher's stop raises CancelledError as if we were cancelled.
        end = owner.stop() if hasattr(owner, "stop") else owner.close()
        closing = asyncio.create_task(end, name=f"stop {type(owner).__name__}")
        await wait_ended([closing], timeout_s=_STOP_TIMEOUT_S)
        if not closing.done():
            await end_tasks([closing], timeout_s=_STOP_TIMEOUT_S)
        if closing.done() and not closing.cancelled():
            closing.exception()  # retrieved, so that asyncio does not log it: the client is given up anyway
