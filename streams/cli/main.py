"""The command line. Commands import modules only when they run, so that ``--help`` does not wait for numba.

Exit codes: 0 done; 1 it ran, and something was refused or failed; 2 a usage or configuration error, with one
line that says what to do.
"""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import ConfigError, EventError, MurmurationError
from streams.cli.audit import audit
from streams.cli.common import ConfigFile, Json, Urls, load_config, run
from streams.cli.durable import durable
from streams.cli.query import query
from streams.cli.train import train
from streams.process.version import VERSION

#: Entry points of this group are commands of ``murmuration``.
COMMANDS = "murmuration.commands"

app = typer.Typer(
    name="murmuration",
    help="A real-time For You feed engine that anybody can run, inspect and trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Show or check the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(query, name="query")
app.add_typer(train, name="train")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """A real-time For You feed engine that anybody can run, inspect and trust."""
    if version:
        typer.echo(VERSION)
        raise typer.Exit


@app.command()
def serve(
    config: ConfigFile = None,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Go on even if the log has lost records that the state needs.")
    ] = False,
) -> None:
    """Follow the log and serve feeds; SIGTERM drains and ends it, SIGUSR1 writes a snapshot."""
    from streams.serve import serve_forever

    run(serve_forever(load_config(config), accept_gap=accept_gap))


@app.command()
def agents(config: ConfigFile = None) -> None:
    """Run the slow path's processors on Kafka, sharing the work with other workers; SIGTERM ends it."""
    from streams.agents.worker import run_agents

    run(run_agents(load_config(config)))


@app.command()
def publish(
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="NDJSON events, or - for standard input.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Replay a folder with engagements.csv.gz (ts,user,item).")] = None,
    config: ConfigFile = None,
    log: Annotated[str | None, typer.Option(help="Publish to this log instead of the configured one.")] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.000001, help="CSV: replay at this multiple of real time.")
    ] = None,
    squeeze: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="HOURS", help="CSV: shrink a longer recording to these hours, in its order."),
    ] = None,
    keep_times: Annotated[bool, typer.Option(help="CSV: leave the times as they are, not shifted to end now.")] = False,
    packed: Annotated[bool, typer.Option(help="CSV: packed batches instead of JSON.")] = False,
    engagement: Annotated[str, typer.Option("--as", help="CSV: the engagement that a row becomes.")] = "retweet",
    ids: Annotated[Path | None, typer.Option(help="CSV: write the mapping of names to ids here.")] = None,
    json: Json = False,
) -> None:
    """Publish events from a file, standard input or a CSV folder; exit code 1 when lines were refused."""
    from streams.cli.publish import CsvOptions, publish_csv, publish_lines

    settings = load_config(config, log=log)
    if (csv is None) == (not source):
        raise typer.BadParameter("give a FILE, - for standard input, or --csv FOLDER")
    if csv is not None:
        if (speed is not None) + keep_times + (squeeze is not None) > 1:
            raise typer.BadParameter("--speed, --squeeze and --keep-times exclude each other")
        options = CsvOptions(csv, engagement, speed, keep_times, packed, ids, squeeze)
        code = run(publish_csv(settings, options, json=json))
    else:
        code = run(publish_lines(settings, source, json=json))
    raise typer.Exit(code)


def _person(text: str) -> int:
    """The id of a person that an argument names."""
    from streams.events.ids import parse_id

    try:
        return parse_id(text)
    except EventError as error:
        raise typer.BadParameter(f"USER: {error.detail}") from error


@app.command()
def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="The id of the person to erase.")],
    config: ConfigFile = None,
    log: Annotated[str | None, typer.Option(help="Write to this log instead of the configured one.")] = None,
    json: Json = False,
) -> None:
    """Erase a person: a null value on topic users, which removes them from every room."""
    from streams.cli.erase import erase as erase_person

    run(erase_person(load_config(config, log=log), _person(user), json=json))


@app.command()
def feed(
    user: Annotated[str, typer.Argument(help="The viewer's id.")],
    url: Urls = ["http://127.0.0.1:8400"],  # noqa: B006 - typer never changes it
    product: Annotated[str, typer.Option(help="for_you, following or who_to_follow.")] = "for_you",
    limit: Annotated[int, typer.Option(min=1, help="Entries to ask for.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print the feed when it changes.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", "-e", help="Say why each entry is there, and what was left out.")
    ] = False,
    token: Annotated[str | None, typer.Option(envvar="MURMURATION_TOKEN", help="The viewer's token.")] = None,
    json: Json = False,
) -> None:
    """Show a person's feed, read over the websocket."""
    from streams.cli.feed import FeedOptions, show_feed

    options = FeedOptions(user, url, product, limit, follow, explain, token, json)
    raise typer.Exit(run(show_feed(options)))


@app.command()
def notifications(
    user: Annotated[str, typer.Argument(metavar="USER", help="The id of the person.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print what comes.")] = False,
    config: ConfigFile = None,
    log: Annotated[str | None, typer.Option(help="Read this log instead of the configured one.")] = None,
    json: Json = False,
) -> None:
    """Show what a person was notified of, read from the log."""
    from streams.cli.notifications import show_notifications

    run(show_notifications(load_config(config, log=log), _person(user), follow=follow, json=json))


@app.command()
def schemas(
    write: Annotated[Path, typer.Option(help="Folder for the AsyncAPI document and the JSON Schemas.")],
) -> None:
    """Generate AsyncAPI and JSON Schema documents from the wire types."""
    from streams.events.documents import write_documents

    for path in write_documents(write):
        typer.echo(path)


@config_app.command("show")
def config_show(config: ConfigFile = None) -> None:
    """Print the configuration that a server would run with (secrets masked), and its hash."""
    import orjson

    from streams.live.wiring import shown_config

    typer.echo(orjson.dumps(shown_config(load_config(config)), option=orjson.OPT_INDENT_2).decode())


@config_app.command("reference")
def config_reference() -> None:
    """Print docs/configuration.md: every key, its bounds and its default."""
    from config.reference import document

    typer.echo(document(), nl=False)


@config_app.command("check")
def config_check(config: ConfigFile = None) -> None:
    """Check the configuration, and say what the rooms take in memory; exit code 2 when it cannot be used."""
    from config.schema import feed_hash
    from streams.live.room_memory import require_memory
    from streams.server.auth import check_serving

    settings = load_config(config)
    check_serving(settings.serving)
    typer.echo(require_memory(settings))
    typer.echo(f"ok, hash {feed_hash(settings)}")


app.command()(audit)
app.add_typer(durable)


def registered() -> None:
    """Add the commands that other packages register as entry points (``pyproject.toml``), so that this package need not
    import them. An entry point names a Typer group, or a function that is one command."""
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


registered()


def main() -> None:
    """Turn the project's errors into one line and an exit code; ``begin.main`` calls it."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:
        leaves = _leaves(error)
        lines = [_line(leaf) for leaf in leaves]
        if not all(lines):
            raise
        for line in lines:
            typer.echo(f"murmuration: {line}", err=True)
        sys.exit(2 if all(isinstance(leaf, ConfigError) for leaf in leaves) else 1)


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, and of the groups in it; of another error the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _line(error: BaseException) -> str:
    """What people can do something about, in a line; "" for a defect."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, MurmurationError):
        return f"{error.code}: {error}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return ""
