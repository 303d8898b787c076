"""Feeds' figures, counted by thread, come out as one."""

import threading

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter

from streams.process.histogram import STAGE_S
from streams.reading.feed_meter import FeedMeters

SECONDS = [0.0, 1e-6, STAGE_S[0], STAGE_S[0] * 1.01, 0.003, STAGE_S[-1], 5.0]


def samples(collector):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in collector.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_threads_add_up_to_what_the_clients_own_metrics_say():
    meters, registry = FeedMeters(), CollectorRegistry()
    histogram = Histogram(
        "murmuration_feed_stage_seconds", "x", ["product", "stage"], buckets=STAGE_S, registry=registry
    )
    counter = PrometheusCounter(
        "murmuration_candidates_total", "x", ["stage", "component", "result"], registry=registry
    )

    def work(number):
        meter = meters.new()
        for seconds in SECONDS[number:]:
            for stage in ("wait", "total")[number % 2 :]:
                meter.stage("for_you", stage, seconds)
                histogram.labels("for_you", stage).observe(seconds)
            meter.candidates["source", "followees", "found"] += number + 1
            counter.labels("source", "followees", "found").inc(number + 1)
        meter.cpu_s["sources"] += 0.5

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples(meters)
    assert found.pop(("murmuration_feed_cpu_seconds_total", ("stage", "sources"))) == 1.5
    expected = samples(registry)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(found[name] - value) < 1e-9, name
