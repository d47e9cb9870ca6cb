"""A layered map is the dict that the same changes lead to, and stays what it is."""

import random
from collections.abc import Mapping

import pytest

from lockstep.layered_map import LayeredMap


def assert_is(layered: LayeredMap[int, int], expected: Mapping[int, int], outside: int) -> None:
    assert list(layered.items()) == list(expected.items())
    assert list(layered) == list(expected)
    assert list(reversed(layered)) == list(reversed(list(expected)))
    assert len(layered) == len(expected)
    assert layered == expected
    for key in range(outside):
        assert (key in layered, layered.get(key), layered.get(key, -1)) == (
            key in expected,
            expected.get(key),
            expected.get(key, -1),
        )


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_dict_that_the_same_changes_lead_to(seed: int) -> None:
    rng = random.Random(seed)
    keys = (5, 40, 900)[seed % 3]
    expected: dict[int, int] = dict.fromkeys(range(0, keys, 2), 0)
    layered = LayeredMap(expected)
    versions = []
    for step in range(300):
        removed = rng.sample(sorted(expected), min(len(expected), rng.randrange(4)))
        # Some of what is removed is put again, and comes last.
        put = {rng.choice((rng.randrange(keys), *removed)): step for _ in range(rng.randrange(5))}
        expected = {key: value for key, value in expected.items() if key not in removed} | put
        layered = layered.changed(removed=removed, put=put)
        assert_is(layered, expected, keys if step % 20 == 0 else 5)
        versions.append((layered, expected))
    for version, was in versions:
        assert_is(version, was, 5)


def test_nothing_that_is_not_there_is_removed() -> None:
    layered = LayeredMap({1: "one"}).changed(removed=[1])
    for missing in (1, 2):
        with pytest.raises(KeyError):
            layered.changed(removed=[missing])
        with pytest.raises(KeyError):
            layered[missing]
    assert not layered


def test_maps_of_one_line_share_their_base() -> None:
    layered = LayeredMap({key: key for key in range(10_000)})
    bases = [layered._base]
    for key in range(10_000, 11_000):
        layered = layered.changed(removed=[key - 10_000], put={key: key})
        if layered._base is not bases[-1]:
            bases.append(layered._base)
        assert len(layered) == 10_000
        assert len(layered._put) + len(layered._gone) < 500
    assert 2 < len(bases) < 10
