"""How commands end: what is printed, as words and as JSON, and the exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from deploy.commands import frame
from deploy.commands.frame import Command, CommandFailed, Options, json_option, network_options, run
from deploy.commands.parameters import ACCOUNT, AMOUNT, Amount
from deploy.node.failures import SettingsInvalid, StorageFailed
from lockstep.errors import (
    BadSignature,
    Contradiction,
    ErrorRecord,
    LockstepError,
    ProofInvalid,
    QueueFull,
    TimedOut,
    UnavailablePeer,
    UnknownSwap,
    WrongChain,
    from_record,
)
from lockstep.types import PublicKey
from tests.unit.deploy.network_folder import make_network_folder


@pytest.fixture(autouse=True)
def _logs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs of the process that runs the tests are not a command's to set."""
    monkeypatch.setattr(frame, "configure_logs", lambda *_, **__: None)


def told(error: LockstepError) -> LockstepError:
    """Return an error as a service told it."""
    record = error.to_record()
    return from_record(
        ErrorRecord(record.code, record.message, record.retryable, None, record.fields), error.status
    )


def ending(act: Callable[[], int | None], *arguments: str) -> Result:
    """Run a command that does `act`."""

    @click.command(cls=Command)
    @json_option
    def command(options: Options) -> None:
        async def work() -> int | None:
            return act()

        run(options, work)

    return CliRunner().invoke(command, arguments)


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


TIMED_OUT = TimedOut(peer="the sequencer")

ENDS: Mapping[str, tuple[BaseException, int, str]] = {
    "told to be wrong": (told(BadSignature(what="lock", signer="ab")), 1, "BAD_SIGNATURE"),
    "not there": (told(UnknownSwap(swap_id="ab")), 1, "UNKNOWN_SWAP"),
    "refused by this side": (CommandFailed("no"), 1, "REFUSED"),
    "disk": (StorageFailed("the disk"), 1, "FAILED"),
    "settings": (SettingsInvalid("the file"), 2, "SETTINGS"),
    "another network": (WrongChain(expected="aa", found="bb"), 2, "WRONG_CHAIN"),
    "away": (UnavailablePeer(peer="the sequencer"), 3, "UNAVAILABLE_PEER"),
    "late": (TIMED_OUT, 3, "DEADLINE_EXCEEDED"),
    "full": (told(QueueFull(queue="order", limit=1)), 3, "QUEUE_FULL"),
    "late in a task": (
        ExceptionGroup("tasks", [ExceptionGroup("more", [TIMED_OUT])]),
        3,
        "DEADLINE_EXCEEDED",
    ),
    "found to be wrong": (BadSignature(what="header", signer="ab"), 4, "BAD_SIGNATURE"),
    "not proven": (ProofInvalid(reason="a leaf"), 4, "PROOF_INVALID"),
    "two answers": (Contradiction(what="checkpoint", evidence="ab"), 4, "CONTRADICTION"),
    "stopped": (KeyboardInterrupt(), 130, "INTERRUPTED"),
}


@pytest.mark.parametrize(("error", "exit_code", "code"), ENDS.values(), ids=ENDS)
def test_each_failure_has_its_exit_code_and_is_json(error: BaseException, exit_code: int, code: str) -> None:
    done = ending(raising(error), "--json")
    assert done.exit_code == exit_code, done.output
    failure = json.loads(done.stdout)
    assert failure.keys() == {"ok", "code", "error", "advice"}
    assert (failure["ok"], failure["code"]) == (False, code)
    assert failure["error"]
    assert done.stderr == ""


@pytest.mark.parametrize(("error", "exit_code"), [each[:2] for each in ENDS.values()], ids=ENDS)
def test_each_failure_is_said_in_words(error: BaseException, exit_code: int) -> None:
    done = ending(raising(error))
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_outcome_says_to_repeat() -> None:
    said = ending(raising(TIMED_OUT)).stderr
    assert said.endswith("\nRepeat the same command: it does nothing twice.\n")


def test_what_does_not_verify_is_not_to_be_acted_on() -> None:
    assert "Do not act on it" in ending(raising(ProofInvalid(reason="a leaf"))).stderr


def test_a_defect_is_not_dressed_up() -> None:
    for defect in (ValueError("a defect"), ExceptionGroup("tasks", [TIMED_OUT, ValueError("a defect")])):
        done = ending(raising(defect), "--json")
        assert done.exception is defect


def test_work_says_its_own_exit_code() -> None:
    assert ending(lambda: None).exit_code == 0
    assert ending(lambda: 4).exit_code == 4


def test_ctrl_c_ends_it() -> None:
    done = ending(lambda: os.kill(os.getpid(), signal.SIGINT))
    assert done.exit_code == 130
    assert "what was sent may still be done" in done.stderr


def test_who_reads_may_go_away_without_a_word(tmp_path: Path) -> None:
    network = make_network_folder(tmp_path / "network")
    command = (sys.executable, "-P", "-m", "deploy.cli", "keys", "list", "--json", "--network", str(network))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


# --- options ----------------------------------------------------------------------------------------------


@click.command(cls=Command)
@network_options
@click.argument("amount", type=AMOUNT)
@click.option("--to", "recipient", type=ACCOUNT, required=True)
def pay(options: Options, amount: Amount, recipient: PublicKey) -> None:
    """Say what would be paid, of a network that is named behind it all."""

    async def work() -> None:
        frame.print_json({"amount": str(amount), "recipient": recipient.hex(), "json": options.is_json})

    run(options, work)


def test_names_are_those_of_the_network_wherever_it_is_named(tmp_path: Path) -> None:
    network = make_network_folder(tmp_path / "network")
    done = CliRunner().invoke(pay, ["1.5:gold@alpha", "--to", "bob", "--json", "--network", str(network)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["amount"] == "1.50 gold on alpha"
    assert json.loads(done.stdout)["json"] is True


@pytest.mark.parametrize(
    ("typed", "code", "error"),
    [
        (("1:gold@alpha", "--to", "carol"), "SETTINGS", "there are: alice, bob"),
        (("1:copper@alpha", "--to", "bob"), "USAGE", "it has: gold, shares"),
        (("1:gold@alpha",), "USAGE", "Missing option '--to'"),
        (("1:gold@alpha", "--too", "bob"), "USAGE", "No such option"),
    ],
)
def test_what_is_typed_wrong_is_json_too(
    typed: tuple[str, ...], code: str, error: str, tmp_path: Path
) -> None:
    network = make_network_folder(tmp_path / "network")
    done = CliRunner().invoke(pay, [*typed, "--json", "--network", str(network)])
    assert done.exit_code == 2
    failure = json.loads(done.stdout)
    assert (failure["ok"], failure["code"]) == (False, code)
    assert error in failure["error"]
    in_words = CliRunner().invoke(pay, [*typed, "--network", str(network)])
    assert (in_words.exit_code, in_words.stdout) == (2, "")
    assert error in in_words.stderr


def test_no_network_is_said_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCKSTEP_NETWORK", raising=False)
    told = "no network: run `lockstep devnet up`, or name one with --network\n"
    for typed, begins in ((["1:gold@alpha", "--to", "ab" * 32], ""), (["x", "--to", "bob"], "'bob' cannot")):
        done = CliRunner().invoke(pay, typed)
        assert done.exit_code == 2
        assert done.stderr.startswith(begins)
        assert done.stderr.endswith(told)


def test_columns_are_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    frame.print_table(("name", "account"), [("alice", "ab" * 100), ("b", "")])
    assert capsys.readouterr().out == f"name   account\nalice  {'ab' * 100}\nb\n"
