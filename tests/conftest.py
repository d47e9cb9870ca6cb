"""What all tests share: `--fail-on-skip`, skipping what is not installed, and no clock in generated tests.

Owns the one list of such components. A test says what it needs by a marker (`needs_node`) and runs wherever
that is installed; `./deploy/test --all` installs it and turns every remaining skip into a failure, so that a
green run under --all has run everything.
"""

import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, or is made, says how busy the machine is and nothing of the product.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

NODE_PACKAGES = Path(__file__).parent / "tools" / "node_modules"
BUF = NODE_PACKAGES / ".bin" / "buf"
GRPCURL = Path(__file__).parent / "tools" / "bin" / "grpcurl"

# Marker: the files that are there if the component is, and why a test without them is skipped.
COMPONENTS = {
    "needs_node": (
        (BUF, NODE_PACKAGES / "@grpc" / "grpc-js"),
        "needs Node and what tests/tools/package.json names: ./deploy/test --all installs it",
    ),
    "needs_gcc": (
        (Path(shutil.which("gcc") or "/usr/bin/gcc"),),
        "needs gcc, which compiles tests/tools/shim.c: ./deploy/test --all installs it",
    ),
    "needs_go": ((GRPCURL,), "needs grpcurl, a Go program: ./deploy/test --all installs it"),
}

SKIPS = pytest.StashKey[list[str]]()


@pytest.fixture
def buf() -> Path:
    """The schema linter; a test that asks for it is marked `needs_node`."""
    return BUF


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="fail, and list them, if tests were skipped")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it puts into the background with Ctrl-C ignored, and every process that a test
    # starts would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[SKIPS] = []
    if config.getoption("fail_on_skip"):
        config.pluginmanager.register(SkipRecorder(config.stash[SKIPS]), "skip-recorder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, (files, reason) in COMPONENTS.items():
            if item.get_closest_marker(marker) and not all(file.exists() for file in files):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[SKIPS] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if skips := config.stash[SKIPS]:
        terminalreporter.section("skipped, which --fail-on-skip does not allow", red=True)
        for line in skips:
            terminalreporter.line(line)


class SkipRecorder:
    """Notes every skip of a test or of a whole file; an expected failure is not one."""

    def __init__(self, skips: list[str]) -> None:
        self._skips = skips

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self._skips.append(f"{report.nodeid}: {reason}")
