"""Cases that do not hold yet, by the test's name. A case that begins to hold fails until its line here is gone."""

REASON = "does not hold yet"
NOT_YET: dict[str, str] = dict.fromkeys(
    (
        "test_a_flood_changes_nothing_for_others[likes of made-up tweets]",
        "test_a_flood_changes_nothing_for_others[replies to made-up tweets]",
        "test_a_muted_word[istanbul]",
    ),
    REASON,
)
