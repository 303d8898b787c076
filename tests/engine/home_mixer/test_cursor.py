import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BadCursorError
from engine.feed import FEEDS, Product
from engine.home_mixer import cursor

ids = st.lists(st.integers(0, 2**64 - 1), max_size=20)
u64 = st.integers(1, 2**64 - 1)


@given(st.sampled_from(FEEDS), u64, st.integers(0, 65535), ids)
def test_round_trip(product, viewer, offset, numbers):
    text = cursor.encode(product, viewer, offset, np.array(numbers, np.uint64))
    back_offset, back = cursor.decode(text, product, viewer, 20)
    assert (back_offset, back.tolist()) == (offset, numbers)


@given(u64, ids, st.integers(0), st.integers(1, 255))
def test_any_changed_byte_is_noticed(viewer, numbers, where, flip):
    text = cursor.encode(Product.FOR_YOU, viewer, 3, np.array(numbers, np.uint64)).encode()
    at = where % len(text)
    damaged = text[:at] + bytes([text[at] ^ flip]) + text[at + 1 :]
    try:
        back = cursor.decode(damaged.decode("latin-1"), Product.FOR_YOU, viewer, 20)
    except BadCursorError:
        return
    # base64's last character has unused bits: the only change that may pass is one that changes nothing.
    assert (back[0], back[1].tolist()) == (3, numbers)


@given(st.text(max_size=200))
def test_garbage_is_named(text):
    with pytest.raises(BadCursorError):
        cursor.decode(text, Product.FOR_YOU, 1, 20)


def test_bound_to_viewer_and_product_and_bounded():
    text = cursor.encode(Product.FOR_YOU, 1, 0, np.arange(5, dtype=np.uint64))
    for product, viewer, most in ((Product.FOLLOWING, 1, 9), (Product.FOR_YOU, 2, 9), (Product.FOR_YOU, 1, 4)):
        with pytest.raises(BadCursorError):
            cursor.decode(text, product, viewer, most)
