"""When the next block is begun."""

from sequencer.pace import BUNDLES_ALONE, GATHERING_SHARE, gathering_ms


def test_who_is_alone_never_waits() -> None:
    assert gathering_ms(bundles=0, made_in_ms=1_000, gather_ms_max=25) == 0
    assert gathering_ms(bundles=BUNDLES_ALONE, made_in_ms=1_000, gather_ms_max=25) == 0


def test_many_gather_for_longer_the_longer_a_block_takes_and_never_for_longer_than_allowed() -> None:
    assert gathering_ms(bundles=BUNDLES_ALONE + 1, made_in_ms=2, gather_ms_max=25) == GATHERING_SHARE * 2
    assert gathering_ms(bundles=16_384, made_in_ms=1_000, gather_ms_max=25) == 25
    assert gathering_ms(bundles=16_384, made_in_ms=1_000, gather_ms_max=0) == 0
