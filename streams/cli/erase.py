"""``murmuration erase``: writes the record that erases a person, and says how far that goes."""

import msgspec
import typer

from config.schema import Config
from streams.events.erasing import TOPIC, erase_record
from streams.events.open_topics import running_log

#: What is removed when, for people.
FAR = (
    "at once, as the record is applied: tweets (deleted), follows, blocks, mutes, muted words, what the person did and"
    " saw, aggregates; the profile becomes a mark that keeps out what comes late",
    "with their windows: edges of the interaction graphs, entries of others' lists that name the person as author; with"
    " its next version: the model of reputations",
    "with retention: the log's records, journals, and snapshots made before this",
)


async def erase(config: Config, user_id: int, *, json: bool) -> None:
    """Append the null value of a person to topic ``users``."""
    async with running_log(config.log) as event_log:
        ((partition, offset),) = await event_log.append(TOPIC, [erase_record(user_id)])
    if json:
        fields = {"user_id": str(user_id), "topic": TOPIC, "partition": partition, "offset": offset}
        typer.echo(msgspec.json.encode(fields).decode())
        return
    typer.echo(f"{user_id} is erased by record {TOPIC}/{partition}/{offset}. What goes when:")
    for line in FAR:
        typer.echo(f"- {line}")
