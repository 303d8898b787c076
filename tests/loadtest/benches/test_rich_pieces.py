from config.schema import Config
from engine.rooms import small_rooms
from loadtest.benches import rich_pieces
from streams.events.decode import Decoder
from streams.ordering.pieces import cut

T0 = 1_760_000_000_000


def test_the_richest_create_has_all_rows_that_the_wire_allows():
    run = rich_pieces._json("tweets", [rich_pieces._create(3, T0, text="x")], T0)
    decoded = Decoder(future_ms_max=1000).decode([run])
    assert not decoded.dead
    assert decoded.record_row_counts.tolist() == [1 + 50 + 10 + 30 + 10]


def test_every_kind_of_piece_is_measured(monkeypatch):
    monkeypatch.setattr(rich_pieces, "CREATES", 8)
    monkeypatch.setattr(rich_pieces, "ENGAGEMENTS", 3000)
    figures = rich_pieces.measure(Config(rooms=small_rooms()), T0)
    kinds = ("creates", "texts", "engagements", "undos", "deletes")
    assert set(figures) == {f"write_lock_ms_{name}" for name in ("p99", "max", *(f"max_{kind}" for kind in kinds))}
    assert 0 < figures["write_lock_ms_p99"] <= figures["write_lock_ms_max"]


def test_rich_creates_are_cut_into_small_pieces():
    run = rich_pieces._json("tweets", [rich_pieces._create(i, T0, text="") for i in range(100)], T0)
    assert max(len(piece[0].values) for piece in cut([run], 2048)) < 21
