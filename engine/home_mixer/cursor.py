"""Opaque cursors: where the next page starts, bound to viewer and product, self-checking.

For You has no order that stays: its cursor carries the originals shown so far, and the next page is computed
without them. Following is keyset-paged: its cursor is (created, id) of the first page's first entry and of the last
entry, and the originals of the newest retweets shown. Either way a page is a function of its request alone; no server
remembers anything.
"""

import base64
import binascii
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadCursorError
from engine.feed import Product

_HEADER = struct.Struct("<BBHQ")
_SEAL = struct.Struct("<I")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_VERSION = 2
_CODES = {Product.FOR_YOU: 1, Product.FOLLOWING: 2}


def encode(product: Product, viewer_id: int, offset: int, numbers: NDArray[np.uint64]) -> str:
    """Pack a cursor: ``offset`` entries were shown before it, ``numbers`` is the product's own matter."""
    body = _HEADER.pack(_VERSION, _CODES[product], offset, viewer_id) + numbers.astype("<u8", copy=False).tobytes()
    sealed = body + _SEAL.pack(zlib.crc32(body))
    return binascii.b2a_base64(sealed, newline=False).translate(_URL_SAFE, b"=").decode()


def decode(cursor: str, product: Product, viewer_id: int, numbers_max: int) -> tuple[int, NDArray[np.uint64]]:
    """Unpack a cursor into (offset, numbers).

    Raises:
        BadCursorError: damaged, too long, or of another viewer or product.
    """
    try:
        raw = cursor.encode("ascii")
        sealed = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise BadCursorError("the cursor is not one of ours") from error
    body = sealed[:-4]
    if len(body) < _HEADER.size or _SEAL.pack(zlib.crc32(body)) != sealed[-4:]:
        raise BadCursorError("the cursor is damaged")
    version, code, offset, owner = _HEADER.unpack_from(body)
    numbers = body[_HEADER.size :]
    if version != _VERSION or len(numbers) % 8 or len(numbers) > 8 * numbers_max:
        raise BadCursorError("the cursor is damaged")
    if code != _CODES[product] or owner != viewer_id:
        raise BadCursorError("the cursor is of another viewer or product")
    return offset, np.frombuffer(numbers, "<u8").astype(np.uint64)
