"""What is shipped: a wheel with all of it, and a bundle that installs where there is no network."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.install import PREFIX, install

PACKAGES = ("shm", "engine", "ledger", "gateways", "tools", "bench")


def run(*command: object, cwd: Path | None = None, **environment: str) -> str:
    """Run it in an environment that knows nothing of this one; its output."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PERPCORE"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def files_below(folder: Path, *parts: str, pattern: str = "*") -> set[str]:
    found = (path for part in parts for path in (folder / part).rglob(pattern))
    return {
        path.relative_to(folder).as_posix()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel in an environment of its own; what it depends on is lent from this one."""
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"  # a build leaves folders beside the sources
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*PACKAGES, "systemd"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    options = ("--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, "wheel", *options, "--wheel-dir", folder / "wheels", source, cwd=folder)
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    (wheel,) = (folder / "wheels").glob("*.whl")
    run(
        *pip,
        "--python",
        venv / "bin/python",
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    (lib,) = venv.glob("lib/python*/site-packages")
    (lib / "lent.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return venv


def test_the_wheel_holds_everything(release: Path) -> None:
    (lib,) = release.glob("lib/python*/site-packages")
    wanted = files_below(ROOT, *PACKAGES, pattern="*.py")
    assert wanted and files_below(lib, *PACKAGES, pattern="*.py") == wanted
    shared = release / "share/perpcore"
    assert files_below(shared, "systemd") == files_below(ROOT, "systemd")


def test_an_installed_release_installs_units(release: Path, tmp_path: Path) -> None:
    """The same files as from a checkout, and without one."""
    program = release / "bin/perpcore"
    assert ", release 1, layouts " in run(program, "--version", cwd=tmp_path)
    root = tmp_path / "root"
    planned = run(program, "install", "--root", root, "--dry-run", cwd=tmp_path)
    assert "would write  /etc/systemd/system/perpcore.target" in planned and not root.exists()
    run(program, "install", "--root", root, cwd=tmp_path)
    install(tmp_path / "checkout", None, PREFIX, dry_run=False)
    assert files_below(root, "etc", "usr") == files_below(tmp_path / "checkout", "etc", "usr")


def offline() -> tuple[str, ...]:
    """How to run a command without network; skips where the host doesn't allow it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("network namespaces need root and unshare (util-linux)")
    return ("unshare", "--net", "--")


def test_a_bundle_installs_without_network(tmp_path: Path, long_run: bool) -> None:
    """The real one: every locked package, into an empty prefix, twice; a damaged one is refused."""
    if not long_run:
        pytest.skip("collects every package from the index: --long")
    away = offline()
    run(ROOT / "tools/bundle", tmp_path, PYTHON=sys.executable)
    (packed,) = tmp_path.glob("perpcore-*.tar")
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path, filter="data")
    bundle = tmp_path / packed.stem
    prefix = tmp_path / "opt"
    command = (*away, bundle / "install.sh", "--prefix", prefix, "--only-release", "--no-compile")
    first = run(*command, cwd=tmp_path, PYTHON=sys.executable)
    assert "next: " in first and "upgrade" in first
    assert "installed already" in run(*command, cwd=tmp_path, PYTHON=sys.executable)
    (release,) = (prefix / "releases").iterdir()
    program = release / "bin/perpcore"
    assert ", layouts " in run(*away, program, "--version", cwd=tmp_path)
    planned = run(*away, program, "install", "--root", tmp_path / "root", "--dry-run", cwd=tmp_path)
    assert "perpcore-engine.service" in planned
    run(*away, program, "config", "show", cwd=tmp_path)
    # Everything that is imported is in it: the engine's kernels as plain Python, gateways too.
    modules = "engine.pipeline, gateways.http.main, gateways.marketdata.main, tools.ledger_run"
    run(
        *away,
        release / "bin/python",
        "-c",
        f"import {modules}",
        cwd=tmp_path,
        NUMBA_DISABLE_JIT="1",
    )

    wheel = next((bundle / "wheels").glob("perpcore-*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "the bundle is damaged" in done.stderr
