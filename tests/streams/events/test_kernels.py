import numpy as np

from engine.batch import Kind
from streams.events import Decoder, encode_events, kernels, make_rows
from streams.log.interface import Format, Records


def test_warming_compiles_the_signatures_that_decoding_uses() -> None:
    kernels.warm()
    like = b'{"v":1,"id":"5","type":"favorite","user_id":"1","tweet_id":"2","timestamp_ms":1760000000000}'
    rows = make_rows(
        2, id=5, user_id=1, subject_id=2, timestamp_ms=1_760_000_000_000, kind=np.array([Kind.FAVORITE, 0], np.uint8)
    )
    packed = encode_events(rows)
    run = Records(
        "engagements",
        0,
        [0, 1, 2],
        [1_760_000_000_000] * 3,
        [Format.JSON, Format.PACKED, Format.PACKED],
        [b""] * 3,
        [like, packed, packed],
    )
    for part in (run, Records("engagements", 0, [1], [1_760_000_000_000], [Format.PACKED], [b""], [packed])):
        assert Decoder(future_ms_max=0).decode([part]).dead
    for kernel in (kernels.parse_decimals, kernels.find_faults):
        assert len(kernel.signatures) == 1
