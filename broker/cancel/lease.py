"""The lease: as long as a driver lives nobody else drives its operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.errors import BrokerError
from broker.observe.events import CANCEL_LEASE_FAILED
from broker.observe.log import get_logger
from broker.protocol.records import OperationRecord
from broker.store.operations import LEASE_US, Operations

log = get_logger("broker.cancel")

RENEWALS_A_LEASE = 3


@asynccontextmanager
async def keeping_lease(operations: Operations, run_id: str, operation: OperationRecord) -> AsyncIterator[None]:
    """Renews the lease while the block runs, however long it reads or waits.

    A lease that was lost is no error here: every driver script carries the fence number and says so.
    """
    renewing = asyncio.create_task(_renew(operations, run_id, operation), name=f"broker-lease-{operation.cancel_id}")
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(operations: Operations, run_id: str, operation: OperationRecord) -> None:
    while True:
        await asyncio.sleep(LEASE_US / 1e6 / RENEWALS_A_LEASE)
        try:
            leased = await operations.lease(run_id, operation.cancel_id, operation.fence)
            if isinstance(leased, str):
                return
            await operations.reschedule(run_id, operation.cancel_id, await operations.now_us() + LEASE_US)
        except BrokerError as error:
            log.warning(CANCEL_LEASE_FAILED, run_id=run_id, cancel_id=operation.cancel_id, error=str(error))
