"""``murmuration erase``: writes the record that erases a person, and says how far that goes."""

import msgspec
import typer

from config.schema import Config
from streams.events.erasing import TOPIC, erase_record
from streams.events.open_topics import running_log

#: What is removed when, for people.
FAR = (
    "at once, as the record is applied: tweets (deleted) and their edges, follows, blocks, mutes, muted words, what the"
    " person did and saw, what others did to the person, aggregates, ids of events; the profile becomes a mark that"
    " hides the name and the reputation, and keeps out what comes late",
    "with the rows after it, where there are very many: further tweets, follows and ids of events, and the person as"
    " the author of what others did; nobody is shown them meanwhile; with its next version: the bytes of the model of"
    " reputations",
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
