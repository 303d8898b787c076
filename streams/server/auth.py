"""Who is asking: bearer tokens, open mode on loopback, Origin and Host.

Open mode trusts the machine it runs on. The one danger left is a web page of another site that sends requests from the
reader's browser, so ``check_site`` refuses foreign origins, and foreign Host names (DNS rebinding).
"""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from config.serving import ServingConfig
from engine.errors import ConfigError
from streams.server.error_names import ProtocolError
from streams.server.frames import parse_id

#: HS256 asks for a key at least as long as its digest (RFC 7518 §3.2).
SECRET_BYTES_MIN: Final = 32
LEEWAY_S: Final = 5
TOKEN_CHARS_MAX: Final = 8192

_UNAUTHORIZED: Final = "a valid token is needed"
_WRONG_VIEWER: Final = "the token is for another viewer"


class Identity(msgspec.Struct, frozen=True):
    """A verified token. ``viewer_id`` is None if the token has scopes and no viewer; ``expires_s``: Unix seconds."""

    viewer_id: int | None
    expires_s: float
    publisher: bool
    querier: bool


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal is this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_serving(config: ServingConfig) -> None:
    """Refuse settings that would serve people unsafely.

    Raises:
        ConfigError: open mode beyond loopback; a burst of events that no frame fits in; a missing, short or wrong token
            key; an origin that cannot be read.
    """
    if config.auth == "open" and not is_loopback(config.host):
        raise ConfigError(
            f"serving.auth: open mode only serves loopback addresses, not {config.host or 'all interfaces'}; "
            'set serving.auth = "token" and serving.token_key, or serving.host = "127.0.0.1"'
        )
    if config.events_burst < config.seen_max:
        raise ConfigError(
            f"serving.events_burst: {config.events_burst} events at once are fewer than one frame's `seen` may have "
            f"(serving.seen_max: {config.seen_max})"
        )
    for origin in config.origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query or parts.fragment:
            raise ConfigError(f"serving.origins: {origin!r} is not of the form https://host[:port]")
    if config.auth == "token":
        _check_key(config)


def _check_key(config: ServingConfig) -> None:
    if not config.token_key:
        raise ConfigError("serving.token_key: token mode needs a key; give it as MURMURATION__SERVING__TOKEN_KEY")
    if config.token_algorithm == "HS256":
        if len(config.token_key.encode()) < SECRET_BYTES_MIN:
            raise ConfigError(f"serving.token_key: an HS256 secret has at least {SECRET_BYTES_MIN} bytes")
        return
    try:
        key = load_pem_public_key(config.token_key.encode())
    except ValueError:
        raise ConfigError("serving.token_key: ES256 needs a PEM public key") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ConfigError("serving.token_key: ES256 needs a public key on the curve P-256")


class Authenticator:
    """Verifies tokens against the one configured algorithm and key. A refusal never says why: that helps attackers."""

    def __init__(self, config: ServingConfig) -> None:
        self.open = config.auth == "open"
        self._key = config.token_key
        self._algorithm = config.token_algorithm
        self._audience = config.token_audience or None

    def verify(self, token: str) -> Identity:
        """The identity of a token.

        Raises:
            ProtocolError: ``unauthorized``, whatever the reason.
        """
        try:
            if len(token) > TOKEN_CHARS_MAX:
                raise ValueError("too long")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp"], "verify_aud": self._audience is not None, "verify_sub": False},
            )
            return _identity(claims)
        except (jwt.PyJWTError, ProtocolError, ValueError, TypeError, OverflowError, RecursionError):
            raise ProtocolError("unauthorized", _UNAUTHORIZED) from None

    def verify_header(self, headers: Mapping[str, str]) -> Identity:
        """The identity of an ``Authorization: Bearer`` header.

        Raises:
            ProtocolError: ``unauthorized``; no token, or one that is not valid.
        """
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise ProtocolError("unauthorized", _UNAUTHORIZED)
        return self.verify(token.strip())


def _identity(claims: Mapping[str, Any]) -> Identity:
    scope = claims.get("scope", "")
    scopes = scope.split() if isinstance(scope, str) else []
    publisher, querier = "publish" in scopes, "query" in scopes
    subject = claims.get("sub")
    viewer_id = None if subject is None and (publisher or querier) else parse_id(subject, "sub")
    return Identity(viewer_id=viewer_id, expires_s=float(claims["exp"]), publisher=publisher, querier=querier)


def require_querier(identity: Identity) -> None:
    """Refuse tokens without scope ``query``: the graph shows who engaged with what.

    Raises:
        ProtocolError: ``wrong_scope``.
    """
    if not identity.querier:
        raise ProtocolError("wrong_scope", "the token's scope has no query")


def require_viewer(identity: Identity, viewer_id: int | None) -> int:
    """The token's viewer, who must be ``viewer_id`` if one is given.

    Raises:
        ProtocolError: ``wrong_viewer``.
    """
    if identity.viewer_id is None or viewer_id not in (None, identity.viewer_id):
        raise ProtocolError("wrong_viewer", _WRONG_VIEWER)
    return identity.viewer_id


def check_site(headers: Mapping[str, str], config: ServingConfig) -> None:
    """Refuse requests that a web page of another site makes in a reader's browser.

    Open mode: Host must be a loopback name or the host of a configured origin. An Origin must be the server's or a
    configured one; without Origin, fetch metadata must not name another site. Token mode has no credentials that a
    browser adds by itself, so it only enforces ``serving.origins``, if that is set.

    Raises:
        ProtocolError: ``forbidden_origin``.
    """
    origin = headers.get("Origin")
    if origin is not None and origin in config.origins:
        return
    if config.auth == "token":
        if origin is not None and config.origins and urlsplit(origin).netloc != headers.get("Host", ""):
            raise ProtocolError("forbidden_origin", "this origin may not use the server")
        return
    host = headers.get("Host", "")
    name = _host_name(host)
    if not (is_loopback(name) or name in {_host_name(urlsplit(o).netloc) for o in config.origins}):
        raise ProtocolError("forbidden_origin", "this Host name is not the server's")
    if origin is not None:
        if origin not in (f"http://{host}", f"https://{host}"):
            raise ProtocolError("forbidden_origin", "this origin may not use the server")
    elif headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise ProtocolError("forbidden_origin", "another site may not use the server")


def _host_name(netloc: str) -> str:
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""
