"""``murmuration erase``: writes the record that erases a person, and says how far that goes."""

import msgspec
import typer

from config.schema import Config
from streams.events.erasing import TOPIC, erase_record
from streams.events.open_topics import running_log

#: What is removed when, for people.
FAR = (
    "at once, as the record is applied: the profile becomes a mark that hides the person, the name and everything that"
    " follows, and keeps out what comes late; muted words, what the person did and saw, aggregates, the reputation in"
    " the model",
    "piece by piece in the seconds after it, whatever else is published (the engine appends records that go on with"
    " it): tweets (deleted) and their edges, follows, blocks, mutes, what others did to the person, ids of events",
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
