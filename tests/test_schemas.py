"""The schemas: stubs are current, the linter is content, services and bounds are what is documented."""

import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

from lockstep.v1 import bridge_pb2, common_pb2, rollup_pb2, sequencer_pb2, settlement_pb2

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "protos"
STUBS = PROTOS / "lockstep" / "v1"

FILES: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR for module in (common_pb2, sequencer_pb2, rollup_pb2, settlement_pb2, bridge_pb2)
)

METHODS = {
    "Sequencer": "Submit SubmitStream StreamBlocks GetBlock GetTransaction GetStatus GetGenesis",
    "Rollup": "GetStatus GetAccount GetState GetReceipt GetSwap StreamReceipts GetCommitment StreamSnapshot",
    "Settlement": (
        "Append AppendStream GetCheckpoint GetInclusionProof GetConsistencyProof StreamEntries GetAnchor "
        "GetStatus"
    ),
    "Bridge": (
        "Propose Accept Reveal Cancel GetSwap ListSwaps WatchSwaps ExplainSwap SwapStream RequestQuotes "
        "MakeQuotes GetStatus"
    ),
}
"""The public surface, which only ever grows."""


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_committed_stubs_are_what_the_schemas_give(tmp_path: Path) -> None:
    run(ROOT / "deploy" / "stubs", tmp_path)
    made = {file.name: file.read_text() for file in (tmp_path / "lockstep" / "v1").iterdir()}
    committed = {file.name: file.read_text() for file in STUBS.iterdir() if "_pb2" in file.name}
    assert made.keys() == committed.keys()
    stale = [name for name in made if made[name] != committed[name]]
    assert stale == [], "run ./deploy/stubs"


@pytest.mark.needs_node
def test_the_linter_is_content(buf: Path) -> None:
    assert run(buf, "lint", "protos") == ""
    assert run(buf, "format", "--diff", "protos") == ""


def test_the_services_offer_what_is_documented() -> None:
    offered = {
        name: [method.name for method in service.methods]
        for file in FILES
        for name, service in file.services_by_name.items()
    }
    assert offered == {name: methods.split() for name, methods in METHODS.items()}


def test_no_two_methods_share_a_message() -> None:
    messages = [
        message.full_name
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
        for message in (method.input_type, method.output_type)
    ]
    assert len(messages) == len(set(messages))


def test_other_languages_find_their_package() -> None:
    assert {file.GetOptions().go_package for file in FILES} == {"lockstep/v1;lockstepv1"}
    assert {file.package for file in FILES} == {"lockstep.v1"}
