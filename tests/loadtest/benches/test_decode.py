from loadtest.benches.decode import run


def test_the_benchmark_measures_every_format() -> None:
    figures = run()
    assert set(figures) == {
        "json_engagement_us",
        "json_engagement_string_ids_us",
        "json_engagement_some_bad_us",
        "json_create_us",
        "packed_us",
    }
    assert all(figure > 0 for figure in figures.values())
    assert figures["packed_us"] < figures["json_engagement_us"]
