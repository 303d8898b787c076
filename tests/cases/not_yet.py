"""Cases that do not hold yet, by the test's name. A case that begins to hold fails until its line here is gone."""

REASON = "does not hold yet"
NOT_YET: dict[str, str] = dict.fromkeys(
    (
        "test_a_flood_changes_nothing_for_others[likes of made-up tweets]",
        "test_a_flood_changes_nothing_for_others[replies to made-up tweets]",
        "test_a_label_before_its_tweet",
        "test_a_label_drops_a_tweet_and_its_retweets[Bounce]",
        "test_a_label_drops_a_tweet_and_its_retweets[Pdna]",
        "test_a_label_drops_a_tweet_and_its_retweets[Spam]",
        "test_a_label_drops_a_tweet_and_its_retweets[spam]",
        "test_a_label_for_recommendations_leaves_followers",
        "test_a_muted_word[istanbul]",
        "test_all_of_it_after_a_restart",
        "test_what_is_over_ones_share_is_refused_by_name",
    ),
    REASON,
)
