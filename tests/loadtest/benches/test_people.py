from loadtest.benches.people import run


def test_the_benchmark_measures_what_it_says(monkeypatch) -> None:
    monkeypatch.setattr("loadtest.benches.people.TIMED", 5000)
    monkeypatch.setattr("loadtest.benches.people.ROUNDS", 1)
    monkeypatch.setattr("loadtest.benches.people.PEOPLE", 1200)
    monkeypatch.setattr("loadtest.benches.people.FOLLOWS_EACH", 10)
    figures = run(follows=20_000, accounts=1000, progress=lambda line: None)
    assert figures["follows_held"] == 20_000
    assert figures["in_network_tweets"] == 600
    assert figures["follow_bytes"] > 8
    assert figures["intersection_us_per_candidate"] >= 0
    assert figures["in_network_ms_p50"] >= 0
    assert figures["follow_events_per_s"] > 0
    assert figures["real_graph_us_per_event"] > 0
    assert 0 < figures["real_graph_bytes_per_edge"] <= 160
    assert figures["real_graph_features_per_edge"] >= 1
    assert figures["who_to_follow_people"] == 20
    assert figures["who_to_follow_ms_p50"] > 0
