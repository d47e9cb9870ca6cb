"""Data of a node that were changed so that only others can tell."""

from dataclasses import replace
from pathlib import Path

from deploy.node.database import open_database
from lockstep.commitment import balance_key, encode_commitment
from lockstep.encoding import u128
from lockstep.genesis import Genesis
from rollups.recent import CLEAR, seed
from rollups.state import map_of
from rollups.storage import APPLICATION_ID, SCHEMA, open_storage
from tests.unit.rollups.chain import ALPHA, CARL
from tests.unit.rollups.stored import values_in


async def make_rich(path: Path, genesis: Genesis) -> int:
    """Give Carl gold in a node of alpha's data, and return at which height.

    Rows and commitment of the last block go together, so that the data hold in themselves.
    """
    async with open_storage(path) as storage:
        loaded = await storage.load(genesis, ALPHA)
    assert loaded.block is not None
    values = {**values_in(path), balance_key(b"gold", CARL.public_key): u128(10**9)}
    richer = replace(loaded.block.commitment, state_root=map_of(values.items()).root)
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
        await database.transact(
            [
                *CLEAR,
                *(statement for statements in seed(values) for statement in statements),
                (
                    "UPDATE blocks SET commitment = ?1, seal = seal(height, header, proof, ?1) "
                    "WHERE height = ?2",
                    [(encode_commitment(richer), richer.height)],
                ),
            ]
        )
    return richer.height
