"""The terms of graph queries, each with a kind, bounds, a default and a description; and reading a query from texts.

A query is a frozen struct with a field for each term (streams/graph_api/queries.py). A field's annotation describes the
term completely: a ``Kind``, a line for people, a ``Meta`` with bounds, a ``To`` where the engine's request has another
name for it, and a ``Usual`` where the default is a key of the server's ``home_mixer`` configuration. The parameters
over HTTP, the options of ``murmuration query`` and the tables of docs/protocol.md are made from these annotations.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from streams.graph_api.kinds import AGE, BadTermError, Kind

if TYPE_CHECKING:
    from engine.home_mixer.config import HomeMixerConfig

NewId = Callable[[], int]
Request = TypeVar("Request", bound=msgspec.Struct)


class To:
    """The fields of the engine's request that a term fills."""

    def __init__(self, *names: str) -> None:
        self.names = names


class Usual(NamedTuple):
    """The key of ``home_mixer`` whose value is the default; with ``bounded`` the term has the key's bounds as well."""

    key: str
    bounded: bool = False


class Made(NamedTuple):
    """A term that the server makes up when the caller leaves it out: the seed of draws."""


class Term(NamedTuple):
    """A term of a query. ``default`` is ``msgspec.NODEFAULT`` if ``usual`` or ``made`` give it, or it is required."""

    name: str
    kind: Kind
    text: str
    bounds: tuple[float, float] | None
    engine_names: tuple[str, ...]
    usual: Usual | None
    made: bool
    default: Any

    @property
    def required(self) -> bool:
        """Whether a query cannot be asked without it."""
        return self.default is msgspec.NODEFAULT and self.usual is None and not self.made

    @property
    def default_text(self) -> str:
        """The default as people read it; "" where nothing needs to be shown."""
        if self.usual is not None:
            return "as the server is configured"
        told = isinstance(self.default, str) or (self.kind.option in (int, float) and self.default is not None)
        return f"{self.default:g}" if told and self.kind.option is float else str(self.default) if told else ""

    def usual_value(self, usual: "HomeMixerConfig") -> Any:
        """The default that the configuration gives."""
        assert self.usual is not None
        value = operator.attrgetter(self.usual.key)(usual)
        return value / 1000.0 if self.kind is AGE else value

    def read(self, text: str, usual: "HomeMixerConfig") -> Any:
        """The value of a text.

        Raises:
            BadTermError: the text is no value of this kind, or the value is out of bounds.
        """
        try:
            value = self.kind.parse(text)
            self._check(value, usual)
        except (BadTermError, msgspec.ValidationError) as error:
            raise BadTermError(f"{self.name}: {error}") from None
        return value

    def _check(self, value: Any, usual: "HomeMixerConfig") -> None:
        if self.bounds is not None and not self.bounds[0] <= value <= self.bounds[1]:
            least, most = self.bounds
            raise BadTermError(f"{least:.0f} to {most:.0f}{' seconds' if self.kind is AGE else ''}")
        if self.usual is not None and self.usual.bounded:
            path, _, key = self.usual.key.rpartition(".")
            config: Any = type(operator.attrgetter(path)(usual))
            msgspec.convert(self.kind.to_engine(value), _hints(config)[key])


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One variety of a query of the interaction graph.

    ``name``: the last part of its path. ``not_here``: the message that refuses terms of the query's other varieties.
    """

    name: ClassVar[str]
    not_here: ClassVar[str] = ""

    def check(self) -> None:
        """Raise ``BadTermError`` for terms that do not go together."""

    def shown(self) -> dict[str, Any]:
        """Every term as JSON shows it."""
        return {name: term.kind.show(getattr(self, name)) for name, term in terms_of(type(self)).items()}

    def to_engine(self, request: type[Request], **more: Any) -> Request:
        """The engine's request with these terms; ``more`` are fields that no term fills."""
        fields: dict[str, Any] = {}
        for name, term in terms_of(type(self)).items():
            value = term.kind.to_engine(getattr(self, name))
            fields |= zip(term.engine_names, value if len(term.engine_names) > 1 else (value,), strict=True)
        return request(**{name: fields[name] for name in request.__struct_fields__ if name in fields} | more)


class Family(NamedTuple):
    """The varieties of one query. ``by``: the term whose value chooses the variety. Without ``by``, each variety is
    named by its first term, and the caller gives exactly one of these.

    ``positional``: the term that the command line takes without a name. ``text``: what is found. ``results``: the
    columns of results, as Markdown.
    """

    varieties: Mapping[str, type[Query]]
    text: str
    results: str
    by: str = ""
    positional: str = ""

    def terms(self) -> dict[str, list[tuple[str, Term]]]:
        """Every term by name, with each variety that has it. Terms that choose a variety come first."""
        choosing = [self.by] if self.by else [name for name in self.varieties if name]
        found: dict[str, list[tuple[str, Term]]] = {name: [] for name in choosing}
        for variety, query in self.varieties.items():
            for name, term in terms_of(query).items():
                found.setdefault(name, []).append((variety, term))
        return found

    def label(self, variety: str) -> str:
        """How a caller asks for a variety, as people read it."""
        return f"{self.by}={variety}" if self.by else variety

    def in_words(self, texts: Iterable[tuple[str, str]]) -> str:
        """The texts about a term in its varieties, joined; a text that all share appears once."""
        said: dict[str, list[str]] = {}
        for variety, text in texts:
            said.setdefault(text, []).append(self.label(variety))
        said.pop("", None)
        if len(said) < 2:
            return next(iter(said), "")
        first, *others = said
        return "; ".join([first, *(f"with {' or '.join(said[text])} {text}" for text in others)])

    def choose(self, texts: Mapping[str, str]) -> type[Query]:
        """The variety that the parameters choose.

        Raises:
            BadTermError: they choose none, or more than one.
        """
        names = list(self.varieties)
        if len(names) == 1:
            return self.varieties[names[0]]
        if self.by:
            value = texts.get(self.by, names[0])
            if value not in self.varieties:
                raise BadTermError(f"{self.by}: one of {', '.join(names)}")
            return self.varieties[value]
        given = [name for name in names if name in texts]
        if len(given) != 1:
            raise BadTermError(f"{', '.join(names[:-1])} or {names[-1]}: exactly one of them")
        return self.varieties[given[0]]

    def read(self, pairs: Iterable[tuple[str, str]], usual: "HomeMixerConfig", new_id: NewId) -> Query:
        """The query of these parameters. A parameter with an empty text counts as left out.

        Raises:
            BadTermError: a parameter cannot be understood; the message begins with the term's name.
        """
        texts: dict[str, str] = {}
        known = self.terms()
        for name, text in pairs:
            if name not in known:
                raise BadTermError(f"{name[:50]}: unknown query parameter")
            if name in texts:
                raise BadTermError(f"{name}: given more than once")
            texts[name] = text
        texts = {name: text for name, text in texts.items() if text}
        chosen = self.choose(texts)
        terms = terms_of(chosen)
        for name in texts:
            if name not in terms and name != self.by:
                raise BadTermError(f"{name}: {chosen.not_here}")
        query = chosen(**{name: _value(term, texts, usual, new_id) for name, term in terms.items()})
        query.check()
        return query


def _value(term: Term, texts: Mapping[str, str], usual: "HomeMixerConfig", new_id: NewId) -> Any:
    if term.name in texts:
        return term.read(texts[term.name], usual)
    if term.required:
        raise BadTermError(f"{term.name}: is needed. {term.text}")
    if term.made:
        return new_id()
    return term.default if term.usual is None else term.usual_value(usual)


@functools.cache
def _hints(struct: Any) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


@functools.cache
def terms_of(query: type[Query]) -> dict[str, Term]:
    """The terms of a query's variety, by name, in their order."""
    return {
        field.name: _term(field.name, _hints(query)[field.name], {} if field.default_factory is dict else field.default)
        for field in msgspec.structs.fields(query)
    }


def _term(name: str, hint: Any, default: Any) -> Term:
    assert get_origin(hint) is Annotated, name
    # If two parts have the same type, the outer one counts.
    said = {type(part): part for part in get_args(hint)[1:]}
    bounds = (said[Meta].ge, said[Meta].le) if Meta in said else None
    to = said[To].names if To in said else (name,)
    return Term(name, said[Kind], said[str], bounds, to, said.get(Usual), Made in said, default)
