"""Which key a role had when."""

from lockstep.key_history import KeyHistory
from lockstep.registry import Registry, accept, take_effect
from lockstep.registry_entries import RegistryChange, RotateKey, sign_change
from lockstep.types import Height
from tests.unit.rollups.chain import key, make_genesis

GENESIS = make_genesis()
START = Registry.from_genesis(GENESIS)
OLD, NEW = key("sequencer").public_key, key("next").public_key


def test_each_height_keeps_its_key() -> None:
    history = KeyHistory("sequencer", START, 0)
    change = RegistryChange(GENESIS.chain_id, "sequencer", 1, Height(4), RotateKey(NEW))
    entry = sign_change(key("governance"), change)
    registry, _ = accept(START, height=Height(1), entries=((0, entry),))
    history.follow(registry, 1)
    assert (history.at(Height(3)), history.at(Height(4))) == (OLD, NEW), "what is pending is foreseen"
    for height in range(2, 7):
        registry, _ = take_effect(registry, height=Height(height), time_ms=height)
        history.follow(registry, height)
    assert [history.at(Height(height)) for height in range(1, 9)] == [OLD] * 3 + [NEW] * 5
