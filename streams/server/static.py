"""The page's files, read once at start and served from memory with a strict content policy."""

import hashlib
from importlib.resources import files
from pathlib import PurePath
from typing import Final, NamedTuple

from aiohttp import web

from streams.server.error_names import ProtocolError

#: Nothing from other origins, nothing inline, no embedding in a frame. The websocket has the same origin.
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: Content types by file name suffix; files with another suffix are not served.
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
    ".webmanifest": "application/manifest+json",
}


class _File(NamedTuple):
    body: bytes
    content_type: str
    etag: str


class Page:
    """The files of ``streams/server/web``, by name; ``/`` is ``index.html``."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        for entry in files("streams.server").joinpath("web").iterdir():
            content_type = _TYPES.get(PurePath(entry.name).suffix)
            if content_type is not None and entry.is_file():
                body = entry.read_bytes()
                self._files[entry.name] = _File(body, content_type, hashlib.sha256(body).hexdigest()[:16])

    async def handle(self, request: web.Request) -> web.Response:
        """Answer ``/`` or ``/{name}``.

        Raises:
            ProtocolError: ``not_found``.
        """
        file = self._files.get(request.match_info.get("name", "index.html"))
        if file is None:
            raise ProtocolError("not_found", "no such page")
        html = file.content_type == "text/html"
        headers = {**HEADERS, "Cache-Control": "no-store" if html else "no-cache", "ETag": f'"{file.etag}"'}
        if html:
            headers["Content-Security-Policy"] = CONTENT_POLICY
        elif any(tag.value == file.etag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        charset = "utf-8" if file.content_type.startswith("text/") else None
        return web.Response(body=file.body, content_type=file.content_type, charset=charset, headers=headers)
