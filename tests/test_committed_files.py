"""Rules about committed files other than code: nothing ties them to one machine, and the lock files lock."""

import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

# Put together here, so that this file does not contain them.
MACHINE_TEXTS = tuple(
    (before + after).encode()
    for before, after in (
        ("/wo", "rk/"),
        ("/tmp/lock", "step"),
        ("index-", "url"),
        ('"resolved": ', '"http'),
        ("py", "pi.org"),
        ("files.python", "hosted"),
        ("registry.", "npmjs"),
    )
)
"""What ties a file to one machine, or a lock file to one package registry."""


def machine_texts(content: bytes) -> list[str]:
    """Return which of MACHINE_TEXTS the content has."""
    return [text.decode() for text in MACHINE_TEXTS if text in content]


def test_no_committed_file_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert Path(__file__) in files
    found = {str(file): machine_texts(file.read_bytes()) for file in files if file.is_file()}
    assert {file: texts for file, texts in found.items() if texts} == {}


@pytest.mark.parametrize("text", MACHINE_TEXTS)
def test_each_machine_text_is_found(text: bytes) -> None:
    assert machine_texts(b"\xff " + text + b"x") == [text.decode()]


LOCK = ROOT / "deploy" / "requirements.lock"
LOCK_DEV = ROOT / "deploy" / "requirements-dev.lock"
LOCK_BENCH = ROOT / "deploy" / "requirements-bench.lock"
PIN = re.compile(
    r"^(?P<name>\S+)==(?P<version>\S+)(?P<marker> ; .*)? \\\n(?P<hashes>(?: +--hash=sha256:.*\n)+)", re.M
)


def pins(lock: Path) -> dict[str, str]:
    """Return name and version of everything in a lock file. All of it is pinned and has hashes.

    What has another version for older interpreters is there with one of them.
    """
    text = lock.read_text()
    found = [(match["name"], match["version"]) for match in PIN.finditer(text)]
    assert len(found) == sum(bool(line) and line[0] not in " #" for line in text.splitlines()), lock
    return dict(found)


def unmet(requirements: list[str], pinned: Mapping[str, str]) -> list[str]:
    """Return the requirements that a lock file does not meet."""
    parsed = [Requirement(line) for line in requirements]
    return [
        str(need)
        for need in parsed
        if not need.specifier.contains(pinned.get(canonicalize_name(need.name), "0"), prereleases=True)
    ]


def test_what_is_tested_is_what_runs() -> None:
    assert pins(LOCK).items() <= pins(LOCK_DEV).items()


def test_what_is_measured_is_what_runs() -> None:
    bench, dev = pins(LOCK_BENCH), pins(LOCK_DEV)
    assert pins(LOCK).items() <= bench.items()
    assert {name: version for name, version in dev.items() if name in bench}.items() <= bench.items()


def test_the_lock_files_meet_the_declared_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]["dependencies"] + project["build-system"]["requires"]
    assert unmet(declared, pins(LOCK)) == [], "run ./deploy/lock"
    for extra, lock in (("dev", LOCK_DEV), ("bench", LOCK_BENCH)):
        needed = project["project"]["optional-dependencies"][extra]
        assert unmet(needed, pins(lock)) == [], "run ./deploy/lock"


def test_a_missing_or_older_pin_is_unmet() -> None:
    assert unmet(["grpcio>=2", "new-one>=1", "click>=8"], {"grpcio": "1.9", "click": "8.1"}) == [
        "grpcio>=2",
        "new-one>=1",
    ]
