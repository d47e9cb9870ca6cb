"""`lockstep rollup show`, `register`, `rotate`, `drain`, `leave` on a running chain: what they do and say."""

import json
from pathlib import Path

import pytest

from lockstep.genesis import encode_rollup_definition
from lockstep.limits import DRAIN_MS_MIN
from lockstep.types import RollupId
from tests.integration.registry_network import change, key_file, lockstep, lockstep_rollup, network_file
from tests.integration.rollup_network import network
from tests.unit.rollups.chain import ALPHA, ATTESTERS, key, rollup

pytestmark = pytest.mark.processes

NEW = key("another attester")


async def test_changes_are_made_and_shown(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        before = (await lockstep_rollup(net, "show")).json
        assert [each["id"] for each in before["rollups"]] == ["alpha", "beta"]
        assert before["keys"]["governance"] == key("governance").public_key.hex()
        assert before["pending"] == []

        keys = (ATTESTERS[ALPHA].public_key, NEW.public_key)
        set_of_two = [word for each in keys for word in ("--attester", each.hex())]
        done = await change(net, "rotate", "alpha", *set_of_two, "--threshold", "2")
        assert (done["kind"], done["sequence"], done["outcome"]) == ("SET_ATTESTERS", 1, "EFFECTIVE")
        assert done["effective_height"] > done["ordered_height"]

        # A leave before the day is over is accepted, and says how long it waits.
        drained = await change(net, "drain", "alpha")
        assert (drained["kind"], drained["sequence"]) == ("DRAIN", 2)
        left = await change(net, "leave", "alpha", wait=False)
        assert (left["outcome"], left["sequence"]) == ("ACCEPTED", 3)

        shown = (await lockstep_rollup(net, "show")).json
        [alpha, _] = shown["rollups"]
        assert (alpha["status"], alpha["threshold"]) == ("DRAINING", 2)
        assert alpha["attesters"] == [each.hex() for each in keys]
        [pending] = shown["pending"]
        assert (pending["kind"], pending["leaves_ms"]) == ("LEAVE", alpha["drained_ms"] + DRAIN_MS_MIN)
        assert left["leaves_ms"] == pending["leaves_ms"]

        for people in (await lockstep_rollup(net, "show", json_wanted=False),):
            assert people.code == 0
            assert "DRAINING" in people.out
            assert "LEAVE" in people.out


async def test_what_cannot_be_is_refused_in_words_before_it_is_sent(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        governance, ann = (("--key", str(key_file(net, name))) for name in ("governance", "ann"))
        definition = tmp_path / "gamma.json"
        definition.write_bytes(encode_rollup_definition(rollup(ALPHA)))
        register = ("register", "--definition", str(definition))
        role = ("rotate", "sequencer", "--new-key", key("settlement").public_key.hex())
        cases = {
            ("drain", "alpha", *ann): "governance has to sign this",
            ("rotate", "alpha", "--new-key", NEW.public_key.hex(), *ann): "nor the one that is replaced",
            ("drain", "gamma", *governance): "no rollup gamma was ever registered",
            ("leave", "alpha", *governance): "drain it first",
            (*register, *governance): "an id is used once and for good",
            (*role, *governance): "a role has or awaits already",
            ("drain", "alpha", *governance, "--effective-height", "1"): "choose a later --effective-height",
        }
        for arguments, reason in cases.items():
            told = await lockstep_rollup(net, *arguments)
            assert told.code == 1, (arguments, told)
            assert told.json["ok"] is False
            assert told.json["code"] == "REFUSED"
            assert reason in told.json["error"], (arguments, told.json)
        await change(net, "drain", "alpha")
        again = await lockstep_rollup(net, "drain", "alpha", *governance)
        assert again.code == 1
        assert "not ACTIVE" in again.json["error"]
        # Nothing of all that was refused is in the order.
        [alpha, beta] = (await lockstep_rollup(net, "show")).json["rollups"]
        assert (alpha["status"], beta["status"]) == ("DRAINING", "ACTIVE")


async def test_what_is_typed_wrong_and_a_sequencer_that_is_not_there(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        governance = ("--key", str(key_file(net, "governance")))
        broken = tmp_path / "broken.json"
        broken.write_text(json.dumps({"id": "gamma"}))
        for arguments in (
            ("register", "--definition", str(broken), *governance),
            ("rotate", "alpha", *governance),
            ("rotate", "alpha", "--new-key", "no key", *governance),
            ("rotate", "sequencer", "--attester", NEW.public_key.hex(), "--threshold", "1", *governance),
        ):
            told = await lockstep_rollup(net, *arguments)
            assert told.code == 2, (arguments, told)
        missing = await lockstep_rollup(net, "drain", "alpha", "--key", str(tmp_path / "none.pem"))
        assert missing.code == 2
        assert "none.pem cannot be read" in missing.json["error"]
        await net.nodes["sequencer"].kill()
        gone = await lockstep_rollup(net, "show")
        assert gone.code == 3
        assert gone.json["code"] == "UNAVAILABLE_PEER"


async def test_registered_by_a_file(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        gamma = RollupId("gamma")
        ATTESTERS.setdefault(gamma, key("attester of gamma"))
        definition = tmp_path / "gamma.json"
        definition.write_bytes(encode_rollup_definition(rollup(gamma)))
        done = await change(
            net, "register", "--definition", str(definition), "--settlement", net.nodes["settlement"].address
        )
        assert (done["subject"], done["kind"], done["settlement_error"]) == ("gamma", "REGISTER_ROLLUP", "")
        assert done["settlement_index"] > 0
        shown = (await lockstep_rollup(net, "show")).json
        assert "gamma" in [each["id"] for each in shown["rollups"]]


async def test_the_address_of_another_service_is_told_apart_from_silence(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        told = await lockstep_rollup(net, "show", "--sequencer", net.nodes["settlement"].address)
        assert told.code == 2
        assert "something else than" in told.json["error"]
        assert told.json["advice"] == "check the address"


async def test_a_network_file_says_where_everything_is_and_keys_are_never_broken(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        narrow = {"LOCKSTEP_NETWORK": str(network_file(net)), "COLUMNS": "40"}
        shown = await lockstep("rollup", "show", **narrow)
        assert shown.code == 0, shown
        assert key("governance").public_key.hex() in shown.out
        assert ATTESTERS[ALPHA].public_key.hex() in shown.out
        governance = ("--key", str(key_file(net, "governance")))
        unknown = await lockstep(
            *("rollup", "rotate", "alpha", "--old-key", NEW.public_key.hex()),
            *("--new-key", key("a third").public_key.hex(), *governance),
            **narrow,
        )
        assert unknown.code == 1
        assert "lists the attesters: name the one that goes with --old-key" in unknown.err
        done = await lockstep("rollup", "drain", "alpha", *governance, "--json", **narrow)
        assert done.json["settlement_index"] > 0, "the network file names the settlement log"
