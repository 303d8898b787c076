"""``murmuration query``: the interaction graph's queries, asked of a running server (docs/protocol.md).

Options are passed on as they are; the server judges them, so that there is one set of rules. A query that cannot be
answered as asked is a usage error (exit code 2).
"""

import asyncio
import contextlib
from typing import Annotated, Any

import typer

from streams.cli.common import Json, parse_urls

query = typer.Typer(
    help="Ask a running server about its interaction graph: who engaged with what, and what that leads to.",
    no_args_is_help=True,
)

Url = Annotated[str, typer.Option("--url", help="The server's address; several with commas.", envvar="MURMURATION_URL")]
Token = Annotated[
    str | None, typer.Option("--token", help="A token with query in its scope.", envvar="MURMURATION_TOKEN")
]
Types = Annotated[str | None, typer.Option(help="Edge types, separated by commas (favorite,retweet,…); default all.")]
Limit = Annotated[int | None, typer.Option(help="Results to ask for.")]
Seeds = Annotated[str | None, typer.Option(help="Users to start from, with weights if wanted: 1,2:0.5.")]
Seed = Annotated[str | None, typer.Option(help="Seed of the draws; default a random one, told in the answer.")]
Proofs = Annotated[int | None, typer.Option(help="Users to name by result.")]
TimeMs = Annotated[int | None, typer.Option(help="Count ages from this time; default the newest event's.")]
HalfLives = Annotated[str | None, typer.Option(help="Up to four half-lives in seconds, separated by commas.")]
Exclude = Annotated[str | None, typer.Option(help="Tweets to leave out.")]
DegreeMin = Annotated[int | None, typer.Option(help="Edges that a result has at least.")]
DegreeOfQuery = Annotated[int | None, typer.Option(help="A tweet of fewer edges has no results.")]
Cooccurrence = Annotated[int | None, typer.Option(help="People that a result shares at least.")]
AgeOf = Annotated[str | None, typer.Option(help="Age from snowflake (default), first_edge or last_edge.")]
Age = Annotated[float | None, typer.Option(help="Oldest result, in seconds.")]
URL_DEFAULT = "http://127.0.0.1:8400"


@query.command()
def salsa(
    user: Annotated[str | None, typer.Argument(help="The user that walks return to.")] = None,
    seeds: Seeds = None,
    walks: Annotated[int | None, typer.Option(help="How many walks; default 1000.")] = None,
    length: Annotated[int | None, typer.Option(help="Steps of a walk, an odd number; default 5.")] = None,
    reset: Annotated[float | None, typer.Option(help="Probability to return before a step; default 0.3.")] = None,
    query_weight: Annotated[float | None, typer.Option(help="The user's share beside seeds; default 0.9.")] = None,
    types: Types = None,
    half_life_s: HalfLives = None,
    blend: Annotated[str | None, typer.Option(help="Parts of the half-lives in the score.")] = None,
    time_ms: TimeMs = None,
    proofs: Proofs = None,
    proof_types: Annotated[str | None, typer.Option(help="Edge types that prove; default all.")] = None,
    limit: Limit = None,
    seed: Seed = None,
    subgraph: Annotated[bool, typer.Option("--subgraph", help="Stay among the seeds' own edges.")] = False,
    url: Url = URL_DEFAULT,
    token: Token = None,
    json: Json = False,
) -> None:
    """Tweets that random walks from a user, or from seeds, visit most."""
    terms = {
        "user": user, "seeds": seeds, "walks": walks, "length": length, "reset": reset, "query_weight": query_weight,
        "types": types, "half_life_s": half_life_s, "blend": blend, "time_ms": time_ms, "proofs": proofs,
        "proof_types": proof_types, "limit": limit, "seed": seed,
        "subgraph": "true" if subgraph else None,
    }  # fmt: skip
    ask("salsa", terms, url=url, token=token, json=json)


@query.command("second-degree")
def second_degree(
    user: Annotated[str | None, typer.Argument(help="The viewer; their followees are the seeds by default.")] = None,
    of: Annotated[str | None, typer.Option(help="tweets (default), users, hashtags or urls.")] = None,
    seeds: Seeds = None,
    types: Types = None,
    edges_per_seed: Annotated[int | None, typer.Option(help="Newest edges read by seed; default 500.")] = None,
    users_min: Annotated[int | None, typer.Option(help="Users of one type that a tweet needs; default 1.")] = None,
    users_min_by_type: Annotated[str | None, typer.Option(help="The same for single types: favorite:2.")] = None,
    unions: Annotated[str | None, typer.Option(help="Types counted together: 'favorite|retweet,reply|quote'.")] = None,
    users_exact: Annotated[int | None, typer.Option(help="Exactly so many users.")] = None,
    tweet_age_s: Annotated[float | None, typer.Option(help="Oldest tweet, by its id's time.")] = None,
    engagement_age_s: Annotated[float | None, typer.Option(help="Oldest engagement that counts.")] = None,
    time_ms: TimeMs = None,
    degree_min: DegreeMin = None,
    exclude: Exclude = None,
    exclude_authors: Annotated[str | None, typer.Option(help="Authors to leave out.")] = None,
    authors: Annotated[str | None, typer.Option(help="Only tweets of these authors.")] = None,
    proofs: Proofs = None,
    proof_tweets: Annotated[int | None, typer.Option(help="Tweets to name by user; default 3.")] = None,
    limit: Limit = None,
    url: Url = URL_DEFAULT,
    token: Token = None,
    json: Json = False,
) -> None:
    """What the seeds themselves engaged with, by the sum of their weights: tweets, what they carry, or users."""
    terms = {
        "user": user, "of": of, "seeds": seeds, "types": types, "edges_per_seed": edges_per_seed,
        "users_min": users_min,
        "users_min_by_type": users_min_by_type, "unions": unions, "users_exact": users_exact,
        "tweet_age_s": tweet_age_s, "engagement_age_s": engagement_age_s, "time_ms": time_ms,
        "degree_min": degree_min, "exclude": exclude, "exclude_authors": exclude_authors, "authors": authors,
        "proofs": proofs, "proof_tweets": proof_tweets, "limit": limit,
    }  # fmt: skip
    ask("second-degree", terms, url=url, token=token, json=json)


@query.command()
def proof(
    tweets: Annotated[str, typer.Argument(help="Tweets, separated by commas.")],
    users: Annotated[str | None, typer.Option(help="Look for these users.")] = None,
    user: Annotated[str | None, typer.Option(help="Look for this user's followees.")] = None,
    types: Types = None,
    proofs: Proofs = None,
    url: Url = URL_DEFAULT,
    token: Token = None,
    json: Json = False,
) -> None:
    """Who of given people engaged with given tweets."""
    terms = {"tweets": tweets, "users": users, "user": user, "types": types, "proofs": proofs}
    ask("proof", terms, url=url, token=token, json=json)


@query.command()
def similar(
    tweet: Annotated[str, typer.Argument(help="The tweet that others are compared with.")],
    more: Annotated[str | None, typer.Option(help="Further tweets to compare with.")] = None,
    measure: Annotated[
        str | None, typer.Option(help="cosine (default), jaccard, overlap, inverse_degree or adamic_adar.")
    ] = None,
    types: Types = None,
    neighbours_max: Annotated[int | None, typer.Option(help="Edges of a tweet looked at; default 200.")] = None,
    samples_max: Annotated[int | None, typer.Option(help="Edges of a person looked at; default 200.")] = None,
    neighbour_degree_min: Annotated[int | None, typer.Option(help="People with fewer edges are left out.")] = None,
    neighbour_degree_max: Annotated[int | None, typer.Option(help="People with more edges are left out.")] = None,
    query_degree_min: DegreeOfQuery = None,
    cooccurrence_min: Cooccurrence = None,
    degree_min: DegreeMin = None,
    degree_max: Annotated[int | None, typer.Option(help="Edges that a result has at most.")] = None,
    age_of: AgeOf = None,
    age_s: Age = None,
    time_ms: TimeMs = None,
    exclude: Exclude = None,
    limit: Limit = None,
    seed: Seed = None,
    url: Url = URL_DEFAULT,
    token: Token = None,
    json: Json = False,
) -> None:
    """Tweets that the same people engaged with."""
    terms = {
        "tweet": tweet, "more": more, "measure": measure, "types": types, "neighbours_max": neighbours_max,
        "samples_max": samples_max, "neighbour_degree_min": neighbour_degree_min,
        "neighbour_degree_max": neighbour_degree_max, "query_degree_min": query_degree_min,
        "cooccurrence_min": cooccurrence_min, "degree_min": degree_min, "degree_max": degree_max, "age_of": age_of,
        "age_s": age_s, "time_ms": time_ms, "exclude": exclude, "limit": limit, "seed": seed,
    }  # fmt: skip
    ask("similar", terms, url=url, token=token, json=json)


@query.command()
def related(
    tweet: Annotated[str | None, typer.Option(help="Related to this tweet, through its people.")] = None,
    author: Annotated[str | None, typer.Option(help="Related to this author, through their followers.")] = None,
    users: Annotated[str | None, typer.Option(help="Related to these users.")] = None,
    types: Types = None,
    query_degree_min: DegreeOfQuery = None,
    sampled_users_max: Annotated[int | None, typer.Option(help="People taken from the tweet; default 100.")] = None,
    user_degree_max: Annotated[int | None, typer.Option(help="People with more edges are left out.")] = None,
    degree_min: DegreeMin = None,
    cooccurrence_min: Cooccurrence = None,
    score_above: Annotated[float | None, typer.Option(help="Results score above this.")] = None,
    age_of: AgeOf = None,
    age_s: Age = None,
    time_ms: TimeMs = None,
    exclude: Exclude = None,
    limit: Limit = None,
    seed: Seed = None,
    url: Url = URL_DEFAULT,
    token: Token = None,
    json: Json = False,
) -> None:
    """Tweets related to a tweet, an author or users, by the rules and limits of Twitter's user-tweet graph."""
    terms = {
        "tweet": tweet, "author": author, "users": users, "types": types, "query_degree_min": query_degree_min,
        "sampled_users_max": sampled_users_max, "user_degree_max": user_degree_max, "degree_min": degree_min,
        "cooccurrence_min": cooccurrence_min, "score_above": score_above, "age_of": age_of, "age_s": age_s,
        "time_ms": time_ms, "exclude": exclude, "limit": limit, "seed": seed,
    }  # fmt: skip
    ask("related", terms, url=url, token=token, json=json)


@query.command()
def neighbours(
    user: Annotated[str | None, typer.Option(help="What this user engaged with, newest first.")] = None,
    tweet: Annotated[str | None, typer.Option(help="Who engaged with this tweet, newest first.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Random edges of these users, with weights if wanted.")] = None,
    samples: Annotated[int | None, typer.Option(help="With seeds: edges to draw; default 1000.")] = None,
    exclude: Exclude = None,
    types: Types = None,
    limit: Limit = None,
    seed: Seed = None,
    url: Url = URL_DEFAULT,
    token: Token = None,
    json: Json = False,
) -> None:
    """A user's or a tweet's edges, or what random edges of several users lead to."""
    terms = {
        "user": user, "tweet": tweet, "seeds": seeds, "samples": samples, "exclude": exclude, "types": types,
        "limit": limit, "seed": seed,
    }  # fmt: skip
    ask("neighbours", terms, url=url, token=token, json=json)


def ask(name: str, terms: dict[str, Any], *, url: str, token: str | None, json: bool) -> None:
    """Ask the server and print what it answers; terms that are None are left out.

    Raises:
        ConfigError: the query cannot be answered as asked.
        FeedClientError: the server refuses otherwise.
        UnreachableError: no server answers.
    """
    given = {key: str(value) for key, value in terms.items() if value is not None}
    addresses = [f"{each.rstrip('/')}/v1/graph/{name}" for each in parse_urls([url])]
    answer = asyncio.run(_fetch_from_any(addresses, given, token))
    if json:
        typer.echo(answer)
        return
    import orjson
    from rich.console import Console

    from streams.cli.render_query import render_answer

    Console().print(render_answer(orjson.loads(answer)))


async def _fetch_from_any(addresses: list[str], terms: dict[str, str], token: str | None) -> str:
    """The answer of the first server that can be reached."""
    from streams.client.client import UnreachableError

    for address in addresses[:-1]:
        with contextlib.suppress(UnreachableError):
            return await _fetch(address, terms, token)
    return await _fetch(addresses[-1], terms, token)


async def _fetch(address: str, terms: dict[str, str], token: str | None) -> str:
    """The answer's JSON."""
    import aiohttp
    import orjson

    from engine.errors import ConfigError
    from streams.client.client import FeedClientError, UnreachableError

    headers = {"Authorization": f"Bearer {token.strip()}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http,
            http.get(address, params=terms, headers=headers) as response,
        ):
            body = await response.read()
            if response.status == 200:
                return body.decode()
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise ConfigError(f"--url: {address.split('/v1/')[0]} is not of the form http://host:port") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise UnreachableError(f"{address}: {str(error) or 'no answer within 60 s'}") from None
    try:
        problem = orjson.loads(body)
        name, message = str(problem["error"]), str(problem["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnreachableError(f"{address}: HTTP {response.status}, not a server of this kind") from None
    if response.status == 400:
        raise ConfigError(f"{name}: {message}")
    raise FeedClientError(name, message)
