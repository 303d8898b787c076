"""The demo can be audited, recovered and inspected while it runs, by the lines that it prints."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from engine.rooms import small_rooms

PATIENCE_S = 240.0
ROOT = Path(__file__).parents[2]


def toml(rooms: msgspec.Struct, path: str) -> str:
    """The numbers of the rooms' configuration as TOML."""
    numbers, tables = [], []
    for name, value in msgspec.structs.asdict(rooms).items():
        if isinstance(value, msgspec.Struct):
            tables.append(toml(value, f"{path}.{name}"))
        elif isinstance(value, int | float):
            numbers.append(f"{name} = {value}")
    return "\n".join([f"[{path}]", *numbers, *tables])


@pytest.mark.timeout(600)
def test_the_lines_that_the_demo_prints_work_beside_it(tmp_path: Path):
    config = tmp_path / "small.toml"
    config.write_text(toml(small_rooms(1 << 12), "rooms") + "\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MURMURATION")}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "streams.cli", "demo", "--config", str(config), "--port", "0",
               "--people", "60", "--events-per-s", "30", "--feeds-per-s", "10"]  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            said: list[str] = []
            while not any("events/s" in line for line in said[-1:]) or len(said) < 12:
                line = demo.stdout.readline()
                assert line, said
                said.append(line.strip())
            (export,) = (line for line in said if line.startswith("export "))
            for words in ("audit --sample 20", "recover --check", "inspect "):
                (line,) = (line for line in said if line.startswith(f"murmuration {words}"))
                line = line.replace("murmuration", f"{sys.executable} -m streams.cli", 1)
                deadline = time.monotonic() + PATIENCE_S
                while True:  # the first feeds may not be in the log yet
                    done = subprocess.run(
                        f"{export} && {line}", shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
                    )
                    if done.returncode == 0 or "nothing was checked" not in done.stderr or time.monotonic() > deadline:
                        break
                assert done.returncode == 0, (line, done.stdout[-2000:], done.stderr[-2000:])
                if words.startswith("recover"):
                    assert "equal: True" in done.stdout
            demo.send_signal(signal.SIGINT)
            demo.stdout.read()
            assert demo.wait(PATIENCE_S) in (0, 130, -signal.SIGINT)
        finally:
            demo.kill()
    assert not list(tmp_path.glob("murmuration-demo-*"))
