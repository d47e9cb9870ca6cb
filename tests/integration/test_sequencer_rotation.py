"""The sequencer's key is replaced by governance: nobody signs what is not his, and no signature is lost."""

import asyncio
from pathlib import Path

import pytest

from deploy.node.chain_files import save_key
from lockstep.errors import ReadOnly
from lockstep.registry_entries import RegistryChange, RotateKey, SignedBy, sign_change
from lockstep.signing import SigningKey
from lockstep.types import REGISTRY_NAMESPACE, Height, PublicKey
from sequencer.client import SequencerClient
from tests.integration.sequencer_process import (
    ALPHA,
    DEADLINE_S,
    GOVERNANCE_SEED,
    SEQUENCER_SEED,
    Process,
    bundle,
    make_home,
)

pytestmark = pytest.mark.processes

NEW_SEED = bytes([9]) * 32


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_another_key_takes_over_at_its_height(tmp_path: Path, end: str) -> None:
    home = make_home(tmp_path)
    old, new = SigningKey(SEQUENCER_SEED).public_key, SigningKey(NEW_SEED).public_key
    async with asyncio.timeout(DEADLINE_S):
        async with Process(home) as process, process.client() as client:
            status = await client.status()
            takes_over = Height(status.height + 10)
            change = RegistryChange(home.genesis.chain_id, "sequencer", 1, takes_over, RotateKey(new))
            entry = sign_change(SigningKey(GOVERNANCE_SEED), change, SignedBy.GOVERNANCE)
            await client.submit(bundle(entry, time_ms=status.time_ms, namespace=REGISTRY_NAMESPACE))
            while not (status := await client.status()).read_only_reason:
                # What is waited for happens in the other process.
                pass
            assert status.height == takes_over - 1
            with pytest.raises(ReadOnly, match="another key"):
                await client.submit(bundle(b"x", time_ms=status.time_ms))
            await (process.stop() if end == "stop" else process.kill())
        save_key(home.path / "key.pem", NEW_SEED)
        if end == "kill":
            # The last signature was in memory alone, and only the old key can make it again.
            refused = Process(home)
            assert await refused.start() == ""
            assert await refused.wait() == 2
            assert "start once with the key" in refused.log()
            save_key(home.path / "key.pem", SEQUENCER_SEED)
            async with Process(home) as process:
                assert await process.stop() == 0
            save_key(home.path / "key.pem", NEW_SEED)

        def key_at(height: Height) -> PublicKey:
            return new if height >= takes_over else old

        async with (
            Process(home) as process,
            SequencerClient(process.address, home.genesis, sequencer_key=key_at) as client,
        ):
            time_ms = (await client.status()).time_ms
            ordered = await client.submit(bundle(b"y", time_ms=time_ms))
            assert ordered.placement.height >= takes_over
            following = client.follow(tip=home.start, namespaces=(ALPHA,), sequencer_key=key_at)
            async for followed in following:
                if followed.block.header.height == ordered.placement.height:
                    assert [each.payload for each in followed.block.entries[ALPHA]] == [b"y"]
                    break
            await following.aclose()
            assert await process.stop() == 0
