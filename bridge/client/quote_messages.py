"""Requests for quotes as they travel, to the coordinator and from there to makers.

Owns the making and reading of these messages, for the coordinator and its clients alike.
"""

from lockstep.quote_requests import QuoteRequest, read_quote_request
from lockstep.quotes import RollupAsset
from lockstep.v1 import bridge_pb2


def asset_message(named: RollupAsset) -> bridge_pb2.AssetName:
    """Return an asset's name as it travels; ValueError for one that is no text."""
    return bridge_pb2.AssetName(rollup=named.rollup, asset=named.asset.decode())


def request_message(request: QuoteRequest, *, wait_ms: int) -> bridge_pb2.RequestQuotesRequest:
    """Return a request as it travels."""
    return bridge_pb2.RequestQuotesRequest(
        give=asset_message(request.pair.give),
        give_amount="" if request.give_amount is None else str(request.give_amount),
        get=asset_message(request.pair.get),
        get_amount="" if request.get_amount is None else str(request.get_amount),
        wait_ms=wait_ms,
    )


def read_request(message: bridge_pb2.RequestQuotesRequest) -> QuoteRequest:
    """Return what a request asks. Raises Malformed."""
    return read_quote_request(
        give=(message.give.rollup, message.give.asset),
        give_amount=message.give_amount,
        get=(message.get.rollup, message.get.asset),
        get_amount=message.get_amount,
    )
