"""The manager's own loop: take lapsed leases away, close turns whose time is over.

Decides nothing itself: what has lapsed, and what follows, is the repository's and the rules'.
"""

import asyncio
import logging

from treadle.control.db.repository import Repository
from treadle.control.faults import Stopping

logger = logging.getLogger(__name__)

# Takeover is promised within the lease plus two seconds; half of that is for the claim.
SWEEP_SECONDS = 1.0
SWEEP_LIMIT = 100


async def sweep_leases(repository: Repository) -> None:
    """Run until cancelled or the repository closes; a failed sweep is tried again."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            while await repository.lapse_leases(SWEEP_LIMIT) == SWEEP_LIMIT:
                continue
            while await repository.expire_commands(SWEEP_LIMIT) == SWEEP_LIMIT:
                continue
        except Stopping:
            return
        except Exception:  # without sweeps no lost run is ever taken over: never give up
            logger.exception("a sweep failed; trying again")
