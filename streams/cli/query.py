"""``murmuration query``: sends queries of the interaction graph to a running server (docs/protocol.md).

The commands and their options are made from the queries' terms. Options are passed on unchanged, and only the server
checks them, so that the rules exist once. A query that cannot be answered as asked is a usage error (exit code 2).
"""

import asyncio
import inspect
from typing import Annotated, Any

import typer

from streams.cli.common import Json, parse_urls
from streams.graph_api.queries import QUERIES
from streams.graph_api.terms import Family, Term

query = typer.Typer(
    help="Ask a running server about its interaction graph: who engaged with what, and what that leads to.",
    no_args_is_help=True,
)

Url = Annotated[
    str, typer.Option("--url", help="The server's address; several are separated by commas.", envvar="MURMURATION_URL")
]
Token = Annotated[
    str | None, typer.Option("--token", help="A token with query in its scope.", envvar="MURMURATION_TOKEN")
]
URL_DEFAULT = "http://127.0.0.1:8400"


def _parameter(family: Family, name: str, varieties: list[tuple[str, Term]]) -> inspect.Parameter:
    """A term as an option, or as the command's argument."""
    text = family.in_words((variety, term.text) for variety, term in varieties)
    default = family.in_words((variety, term.default_text) for variety, term in varieties if name != family.by)
    text += f" Default: {default}." if default else ""
    option = varieties[0][1].kind.option
    if name == family.positional:
        said: Any = typer.Argument(help=text)
    else:
        said = typer.Option(f"--{name.replace('_', '-')}", help=text)
    needed = name == family.positional and varieties[0][1].required
    hint: Any = option if needed or option is bool else option | None
    missing = inspect.Parameter.empty if needed else False if option is bool else None
    return _keyword(name, Annotated[hint, said], missing)


def _keyword(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _add(name: str, family: Family) -> None:
    """Make the command of a query."""

    def command(*, url: str, token: str | None, json: bool, **terms: Any) -> None:
        ask(name, terms, url=url, token=token, json=json)

    parameters = [_parameter(family, term, varieties) for term, varieties in family.terms().items()]
    parameters += [_keyword("url", Url, URL_DEFAULT), _keyword("token", Token, None), _keyword("json", Json, False)]
    # Typer reads options from these.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    query.command(name, help=family.text)(command)


for _name, _family in QUERIES.items():
    _add(_name, _family)


def ask(name: str, terms: dict[str, Any], *, url: str, token: str | None, json: bool) -> None:
    """Ask the server and print its answer; terms that are None or False are left out.

    Raises:
        ConfigError: the query cannot be answered as asked.
        FeedClientError: the server refuses otherwise.
        UnreachableError: no server answers.
    """
    import orjson
    from rich.console import Console

    from streams.cli.render_query import render_answer
    from streams.client.graph import graph_query

    given = {
        key: "true" if value is True else str(value)
        for key, value in terms.items()
        if value is not None and value is not False
    }
    answer = asyncio.run(graph_query(parse_urls([url]), name, given, token))
    if json:
        typer.echo(answer.decode())
    else:
        Console().print(render_answer(orjson.loads(answer)))
