from loadtest.benches import compile as bench
from streams.live import kernel_cache


def test_the_benchmark_names_every_module(monkeypatch) -> None:
    monkeypatch.setattr(kernel_cache, "MODULES", ("engine.kernels.rng", "engine.kernels.decay"))
    told: list[str] = []
    figures = bench.run(progress=told.append, cold_start=False)
    assert list(figures) == ["engine.kernels.rng_s", "engine.kernels.decay_s", "compile_cpu_s", "budget_s"]
    assert told == ["engine.kernels.rng", "engine.kernels.decay"]
    assert 0 < figures["engine.kernels.rng_s"] < figures["compile_cpu_s"]
