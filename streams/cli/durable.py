"""Commands about the durable folder (docs/durability.md)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.common import ConfigFile, Json, load_config, run

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streams.durable.inspect_folder import FolderReport, HistoryReport, SnapshotReport

durable = typer.Typer()


@durable.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="The folder of journal and snapshots (durable.folder).")],
    json: Json = False,
) -> None:
    """Show what a durable folder holds, every checksum verified; exit code 1 when something is damaged."""
    import msgspec
    from rich.console import Console, Group

    from streams.durable.disk import RealDisk
    from streams.durable.inspect_folder import inspect as look
    from streams.durable.store import Store

    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder", param_hint="FOLDER")
    report = look(Store.open(RealDisk(folder), writable=False))
    if not (report.histories or report.problems):
        raise typer.BadParameter(
            f"{folder} holds no history of an engine; durable.folder names one", param_hint="FOLDER"
        )
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        Console().print(Group(*_render(report)))
    raise typer.Exit(1 if report.problems else 0)


@durable.command()
def snapshot(
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Have the running server write a snapshot now; without a server, write one from journal and log."""
    from streams.cli.recover import take_snapshot

    raise typer.Exit(run(take_snapshot(load_config(config), json=json)))


@durable.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The folder to make; it may exist if it is empty.")],
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Copy an embedded engine, running or not: its log, newest snapshot and journal; a server can start on the copy."""
    from streams.cli.backup import back_up

    raise typer.Exit(run(back_up(load_config(config), target, json=json)))


@durable.command()
def recover(
    config: ConfigFile = None,
    check: Annotated[bool, typer.Option("--check", help="Rebuild the newest version in two ways and compare.")] = False,
    skip: Annotated[
        int, typer.Option("--skip", min=0, help="Pass over the piece of this version, which cannot be applied.")
    ] = 0,
    json: Json = False,
) -> None:
    """Rebuild the newest version from snapshot, journal and log, beside a server or without one; changes nothing.

    With --check the state is also rebuilt from an older snapshot (or the whole log): exit code 1 when the two
    differ, or when there is no second way to compare with.
    With --skip, for a version whose piece makes every start fail, nothing is rebuilt: the journal notes that the piece
    is passed over. Its records become dead letters, and feeds then count them in gap_records. No server may run.
    """
    from streams.cli.recover import rebuild_newest, skip_piece

    if skip and check:
        raise typer.BadParameter("give --check or --skip, not both")
    if skip:
        raise typer.Exit(run(skip_piece(load_config(config), skip, json=json)))
    raise typer.Exit(run(rebuild_newest(load_config(config), check=check, json=json)))


def _render(report: "FolderReport") -> list["RenderableType"]:
    parts: list[RenderableType] = [part for history in report.histories for part in _render_history(history)]
    parts.append(f"configurations: {', '.join(report.configs) or 'none'}")
    if report.unfinished:
        parts.append(f"being written, or left by a crash: {', '.join(report.unfinished)}")
    parts.append("\n".join(f"DAMAGED {problem}" for problem in report.problems) or "everything is whole")
    return parts


def _render_history(history: "HistoryReport") -> list["RenderableType"]:
    from rich.table import Table

    journal = history.journal
    lines = [
        f"history {history.id}{' (in force)' if history.current else ''}, since {_time(history.created_ms)}",
        f"  rooms {history.rooms_hash}, log {history.log}",
        *_render_began(history),
        "  no journal"
        if journal is None
        else f"  journal: versions {journal.first_version} to {journal.version}, {journal.bytes:,} bytes, "
        f"{journal.bytes_per_version:.1f} a version"
        + (f", a torn tail of {journal.torn_bytes} bytes" if journal.torn_bytes else "")
        + (f", {journal.gaps} gaps" if journal.gaps else "")
        + (f", passed over: {', '.join(map(str, journal.skipped))}" if journal.skipped else ""),
    ]
    if not history.snapshots:
        return ["\n".join([*lines, "  no snapshots"])]
    table = Table("snapshot at version", "written", "bytes", "state")
    for snapshot in history.snapshots:
        written = "?" if snapshot.created_ms is None else _time(snapshot.created_ms)
        table.add_row(str(snapshot.version), written, f"{snapshot.bytes:,}", "damaged" if snapshot.problem else "whole")
    return ["\n".join(lines), table, *_render_models(history.snapshots[0])]


def _render_models(snapshot: "SnapshotReport") -> list["RenderableType"]:
    """The models in force in a snapshot; empty if there are none."""
    from rich.table import Table

    if not snapshot.models:
        return []
    table = Table("model", "version", "bytes", "committed", "digest", "evaluation", title="in the newest snapshot")
    for model in snapshot.models:
        measured = ", ".join(f"{name} {value:g}" for name, value in model.evaluation.items())
        table.add_row(
            model.name,
            str(model.version),
            f"{model.bytes:,}",
            _time(model.committed_ms),
            model.sha256[:16],
            measured,
        )
    return [table]


def _render_began(history: "HistoryReport") -> list[str]:
    began = history.began
    if began is None:
        return []
    fates = ", ".join(f"{room} {fate}" for room, fate in sorted(began.rooms.items()) if fate != "kept")
    late = [f"{room} knows since version {version}" for room, version in sorted(began.since.items()) if version]
    lines = [f"  goes on from version {began.version} of history {began.history}: {fates or 'all rooms kept'}"]
    return [*lines, f"  {', '.join(late)}"] if late else lines


def _time(time_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1000.0, UTC).isoformat(timespec="seconds")
