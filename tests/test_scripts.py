"""deploy/setup where it must refuse, and --fail-on-skip. Every run of the tests shows that setup installs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with what setup reads, and no .venv."""
    locks = [f"deploy/requirements{profile}.lock" for profile in ("", "-dev", "-bench")]
    packages = ("deploy/__init__.py", "protos/lockstep/__init__.py")
    for name in ("pyproject.toml", "deploy/setup", *locks, *packages):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def fake_python(folder: Path, script: str) -> Path:
    python = folder / "fake-python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


def test_setup_says_that_no_python_is_new_enough(checkout: Path) -> None:
    old = fake_python(checkout, "exit 1")
    done = run("deploy/setup", cwd=checkout, PYTHON=f"{old} no-such-python")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not list(checkout.glob(".venv/*"))


def test_setup_says_that_the_venv_module_is_missing(checkout: Path) -> None:
    bare = fake_python(checkout, f'case "$*" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    done = run("deploy/setup", cwd=checkout, PYTHON=str(bare))
    assert done.returncode == 1
    assert "its venv module is missing" in done.stderr


def test_setup_starts_over_after_one_that_was_killed(checkout: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "half-installed").touch()
    (checkout / ".venv.busy").write_text(f"{killed.pid}\n")
    done = run("deploy/setup", cwd=checkout, PYTHON="no-such-python")
    assert "did not finish; starting over" in done.stderr
    assert not (checkout / ".venv" / "half-installed").exists()


def test_ctrl_c_ends_setup_without_words_of_pythons_own(checkout: Path) -> None:
    setup = subprocess.Popen(
        ["deploy/setup"],
        cwd=checkout,
        env=os.environ | {"PYTHON": sys.executable},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with setup:
        assert setup.stderr is not None
        assert "making .venv" in setup.stderr.readline()
        deadline_s = time.monotonic() + 60
        while not (checkout / ".venv" / "pyvenv.cfg").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        # As a terminal does: every process of the group gets it.
        os.killpg(setup.pid, signal.SIGINT)
        said = setup.stderr.read()
    assert setup.returncode == 130
    assert said == "setup: stopped; the same command starts over\n"


def run_planted(folder: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the project's settings and hooks on a file of `source`, and one whose test passes."""
    (folder / "test_planted.py").write_text(source)
    (folder / "test_passed.py").write_text(PASSED)
    settings = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "tests.conftest")
    return run(sys.executable, "-m", "pytest", *settings, *arguments, folder, cwd=ROOT)


SKIPPED = "import pytest\n@pytest.mark.skip(reason='no moon')\ndef test_it(): pass\n"
SKIPPED_FILE = "import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass\n"
SKIPPED_INSIDE = "import pytest\ndef test_it(): pytest.skip('no moon')\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"
PASSED = "def test_it(): pass\n"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (SKIPPED, "test_it: Skipped: no moon"),
        (SKIPPED_INSIDE, "test_it: Skipped: no moon"),
        (SKIPPED_FILE, "could not import 'no_such_module'"),
        (EXPECTED_FAILURE, None),
        (PASSED, None),
    ],
)
def test_fail_on_skip_fails_and_lists(tmp_path: Path, source: str, named: str | None) -> None:
    done = run_planted(tmp_path, source, "--fail-on-skip")
    assert done.returncode == (1 if named else 0), done.stdout + done.stderr
    listed = done.stdout.partition("--fail-on-skip does not allow")[2]
    assert bool(listed) == bool(named)
    assert (named or "") in listed


def test_without_fail_on_skip_a_skip_is_allowed(tmp_path: Path) -> None:
    done = run_planted(tmp_path, SKIPPED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
