"""What is published works: wheel and sdist are built, the wheel is installed far from the checkout, the demo runs."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Compiling every kernel, where the checkout has none, on a machine that runs other tests as well.
DEMO_TIMEOUT_S = 240


def run(*words: str | Path, cwd: Path, timeout_s: float = 240) -> str:
    """Standard output of a command without this checkout's environment."""
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environ, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def lend_kernels(packages: Path) -> None:
    """Give an installation the kernels that the checkout has compiled, rather than minutes of compiling them anew.

    Numba takes a cached kernel for a source file of the same size and time only: the times are lent with it.
    """
    for source in (*ROOT.glob("engine/**/*.py"), *ROOT.glob("streams/**/*.py")):
        installed = packages / source.relative_to(ROOT)
        assert installed.read_bytes() == source.read_bytes()
        shutil.copystat(source, installed)
    for pattern in ("*.nbi", "*.nbc", "murmuration-kernels.json"):
        for kernel in (*ROOT.glob(f"engine/**/{pattern}"), *ROOT.glob(f"streams/**/{pattern}")):
            folder = packages / kernel.relative_to(ROOT).parent
            folder.mkdir(exist_ok=True)
            shutil.copy2(kernel, folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


def test_the_sdist_has_what_a_build_and_a_test_run_need(built: Path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "requirements.lock", "Dockerfile"}
    assert wanted <= names
    assert {"engine/state.py", "streams/serve.py", "config/schema.py", "loadtest/scenarios/demo.py"} <= names
    assert {"tests/conftest.py", "docs/architecture.md", "config/deploy/compose.yaml"} <= names
    assert not any(name.startswith((".venv/", "var/", ".kafka/")) or "__pycache__" in name for name in names)


def test_the_wheel_has_the_packages_and_the_page_and_nothing_else(built: Path):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"engine", "streams", "config", "loadtest"}
    assert "streams/server/web/index.html" in names
    assert not any("__pycache__" in name or name.endswith((".nbi", ".nbc")) for name in names)


@pytest.mark.network
@pytest.mark.timeout(600)
def test_the_demo_runs_from_the_wheel_in_an_empty_environment(built: Path, tmp_path: Path):
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=tmp_path)
    run(*pip, "--no-deps", wheel, cwd=tmp_path)
    where = run(python, "-c", "import engine, streams, config, loadtest; print(engine.__file__)", cwd=tmp_path)
    assert str(tmp_path) in where
    lend_kernels(Path(where.strip()).parents[1])
    command = (tmp_path / "env" / "bin" / "murmuration", "demo", "--people", "50", "--seconds", "3", "--port", "0")
    figures = json.loads(run(*command, "--json", cwd=tmp_path, timeout_s=DEMO_TIMEOUT_S).splitlines()[-1])
    assert figures["feeds_served"] > 0
