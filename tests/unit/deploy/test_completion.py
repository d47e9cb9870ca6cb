"""TAB: the scripts for the shells, and what is offered at which point."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.deploy.network_folder import make_network_folder

LOCKSTEP = (sys.executable, "-P", "-c", "from deploy.cli import main; main(prog_name='lockstep')")


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        (*LOCKSTEP, *arguments),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def offered(typed: str, **environment: str) -> list[str]:
    """Return what is offered for the last word of what was typed."""
    said = run(
        COMP_WORDS=typed,
        COMP_CWORD=str(len(typed.split(" ")) - 1),
        _LOCKSTEP_COMPLETE="bash_complete",
        **environment,
    )
    return [line.partition(",")[2] for line in said.split()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_lockstep(shell: str) -> None:
    assert f"_LOCKSTEP_COMPLETE={shell}_complete" in run("completion", shell)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("lockstep sw", ["swap"]),
        ("lockstep se", ["sequencer", "settlement"]),
        ("lockstep account b", ["balance"]),
        ("lockstep rollup ro", ["rotate"]),
        ("lockstep completion z", ["zsh"]),
        ("lockstep transfer --no", ["--no-wait"]),
        ("lockstep sequencer run --c", ["--config"]),
        ("lockstep nothing", []),
    ],
)
def test_commands_and_options(typed: str, wanted: list[str]) -> None:
    assert offered(typed) == wanted


def test_names_of_keys(tmp_path: Path) -> None:
    network = str(make_network_folder(tmp_path / "network"))
    assert offered("lockstep account show ", LOCKSTEP_NETWORK=network) == ["alice", "bob"]
    assert offered("lockstep transfer --key al", LOCKSTEP_NETWORK=network) == ["alice"]
    assert offered(f"lockstep keys show --network {network} b") == ["bob"]
    assert offered("lockstep account show ", LOCKSTEP_NETWORK="nowhere.toml") == []


def test_completing_a_name_of_a_command_imports_no_command() -> None:
    program = (
        "import sys; from deploy.cli import main; from click.shell_completion import BashComplete; "
        "BashComplete(main, {}, 'lockstep', 'X').get_completions([], ''); "
        "print(sorted(name for name in sys.modules if name.startswith(('grpc', 'deploy.commands'))))"
    )
    done = subprocess.run((sys.executable, "-P", "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
