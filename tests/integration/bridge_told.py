"""What a coordinator tells of swaps, without what may differ between two of them."""

from collections.abc import Mapping, Sequence

from deploy.node.client import ClientSettings, connect
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2, bridge_pb2_grpc, common_pb2


async def told(address: str, swap_ids: Sequence[SwapId]) -> Mapping[SwapId, tuple[bytes, list[bytes]]]:
    """Return, in bytes, everything deterministic that the coordinator at an address tells of each swap."""
    found = {}
    async with connect(address, ClientSettings()) as channel:
        stub = bridge_pb2_grpc.BridgeStub(channel)
        for swap_id in swap_ids:
            got = await stub.GetSwap(bridge_pb2.BridgeGetSwapRequest(swap_id=swap_id))
            explained = await stub.ExplainSwap(bridge_pb2.ExplainSwapRequest(swap_id=swap_id))
            assert deterministic_swap(explained.swap) == deterministic_swap(got.swap)
            events = [each.SerializeToString(deterministic=True) for each in explained.events if each.height]
            assert events
            found[swap_id] = deterministic_swap(got.swap), events
    return found


def deterministic_swap(swap: bridge_pb2.Swap) -> bytes:
    """Return the bytes of a swap without the fields that the schema calls not deterministic."""
    kept = bridge_pb2.Swap.FromString(swap.SerializeToString())
    kept.sequence, kept.level = 0, common_pb2.COMMIT_LEVEL_UNSPECIFIED
    for leg in kept.legs:
        leg.settled = False
        if leg.state in (bridge_pb2.LEG_STATE_AWAITED, bridge_pb2.LEG_STATE_GIVEN):
            leg.state = bridge_pb2.LEG_STATE_UNSPECIFIED
    if not kept.decided_height:
        kept.next_action = ""
    return kept.SerializeToString(deterministic=True)
