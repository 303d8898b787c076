"""The age of the oldest record that waits, and which transactions hold records back."""

import hypothesis.strategies as st
from hypothesis import given

from streams.live.lag import HELD_S, Arrivals, Transactions
from streams.log.interface import TopicPartition

WHERE = TopicPartition("tweets", 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=1200))
def test_the_age_is_that_of_the_oldest_record_that_waits(steps: list[tuple[int, int]]) -> None:
    """Every second some records arrive and some are applied; looks come every second."""
    arrivals, arrived_s, position = Arrivals(), [0.0, 0.0], 0
    arrivals.see_end(len(arrived_s), 0.0)
    for second, (come, go) in enumerate(steps, 1):
        arrived_s += [float(second)] * come
        arrivals.see_end(len(arrived_s), float(second))
        position = min(position + go, len(arrived_s))
        oldest_s = arrivals.oldest_s(position)
        if position == len(arrived_s):
            assert oldest_s is None
        else:
            assert oldest_s is not None
            # Looks that are forgotten make a record younger, never older; the oldest look is never forgotten.
            assert arrived_s[position] <= oldest_s <= second
            if second < 256 or position < 2:
                assert oldest_s == arrived_s[position]


def test_records_that_were_there_before_say_themselves_how_old_they_are() -> None:
    arrivals = Arrivals()
    arrivals.see_end(10, 100.0)
    assert arrivals.oldest_s(0) == 100.0
    arrivals.note(4, 7.0)
    arrivals.note(9, 8.0)
    assert arrivals.oldest_s(0) == 7.0
    assert arrivals.oldest_s(5) == 8.0
    arrivals.see_end(12, 110.0)
    arrivals.note(11, 9.0)  # what a producer claims of a record that came later does not count
    assert arrivals.oldest_s(10) == 110.0
    assert arrivals.oldest_s(12) is None


def test_a_transaction_is_named_once_it_holds_records_back_for_long() -> None:
    transactions = Transactions()
    other = TopicPartition("tweets", 1)

    def see(now_s: float, **readable: int) -> str:
        ends = {WHERE: 8, other: 5}
        transactions.see({WHERE: readable["at"], other: readable.get("other", 5)}, now_s, ends)
        held = transactions.held(now_s, ends)
        return "" if held is None else held.line(now_s)

    assert see(0.0, at=3) == ""
    assert see(HELD_S, at=4) == ""  # it moves: these are transactions that end
    assert see(2 * HELD_S - 0.1, at=4, other=2) == ""
    assert "holds back 4 records of tweets/0 from offset 4 on, for 5 s" in see(2 * HELD_S, at=4, other=2)
    assert see(2 * HELD_S + 1, at=8) == ""
    assert see(3 * HELD_S, at=8, other=2) == ""
