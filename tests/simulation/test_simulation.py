"""Seeds of the whole engine with faults: each must end with nothing lost, doubled or different, twice the same way."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from loadtest.simulation.run import simulate

SEEDS = 200
CHUNK = 25
#: What was exercised by all seeds together, by chunk: the last test looks at it.
exercised: Counter[str] = Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_is_lost_doubled_or_different(first: int):
    for seed in range(first, first + CHUNK):
        outcome = simulate(seed)
        trace = "\n".join(outcome.trace.lines[-60:])
        assert outcome.failure is None, (
            f"seed {seed}: {outcome.failure}\nmurmuration simulate --seed {seed} --verbose\n{trace}"
        )
        exercised.update(outcome.figures)
        for line in outcome.trace.lines:
            for mark in MARKS:
                exercised[mark] += mark in line


#: What must happen in some of the seeds, or they prove little.
MARKS = (
    "kill -9",
    "the power is cut",
    "the configuration changes",
    "the rooms change after version",
    "'grown'",
    "'rebuilt'",
    "'empty'",
    "no room for",
    "is dropped",
    "is kept",
    "vanishes under the process",
    "is written again",
    "loses its end",
    "the disk has lost the end of the journal",
    "an older copy of current",
    "the file current named a history that another one continues",
    "moves the folder away",
    "a history begins anew",
    "never arrives",
    "the answer to append is lost",
    "an append reaches partitions",
    "adds a partition",
    "records of",
    "--accept-gap",
    "are lost, there are gaps",
    "zeros from",
    "a hole from",
    "is told to stop",
    "snapshot-",
    "a job begins",
    "log: info job done",
    "log: error a job has no result",
    "a flood of",
    "as they come",
)


def test_the_seeds_meet_what_they_are_for():
    if exercised["lives"] == 0:
        pytest.skip("the seeds were not run")
    assert exercised["feeds"] > 5 * SEEDS / 2
    assert exercised["audited"] > exercised["feeds"] / 2
    assert exercised["audited_lost"] > 0
    assert exercised["versions"] > 20 * SEEDS
    assert exercised["duplicates"] > SEEDS
    assert exercised["bystanders"] > 2 * SEEDS
    assert exercised["models"] > SEEDS / 2
    assert exercised["models_refused"] > SEEDS / 2
    for mark in MARKS:
        assert exercised[mark] > 0, mark


def test_a_seed_is_the_same_run_in_any_process():
    """Hashes of strings differ between processes; nothing that happens may depend on them."""
    here = simulate(7)
    again = simulate(7)
    assert again.trace.lines == here.trace.lines
    assert again.state_digest == here.state_digest != ""
    assert simulate(8).trace.digest() != here.trace.digest()
    program = (
        "from loadtest.simulation.run import simulate; o = simulate(7);"
        "import sys; sys.stdout.write(o.trace.digest() + ' ' + o.state_digest)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "4711"}
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=300
    )
    assert other.stdout == f"{here.trace.digest()} {here.state_digest}"
