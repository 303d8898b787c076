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
                meter.note("for_you", {stage: 1000.0 * seconds}, {stage: 500.0})
                histogram.labels("for_you", stage).observe(1000.0 * seconds / 1000.0)
            meter.candidates["source", "followees", "found"] += number + 1
            counter.labels("source", "followees", "found").inc(number + 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples(meters)
    # Of CPU time no total is counted; the first and the third thread have the other stage.
    waits = len(SECONDS) + len(SECONDS[2:])
    assert found.pop(("murmuration_feed_cpu_seconds_total", ("stage", "wait"))) == 0.5 * waits
    expected = samples(registry)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(found[name] - value) < 1e-9, name
