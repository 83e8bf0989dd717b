"""Giving a campaign back to the database, as far as the database can be used."""

from __future__ import annotations

import logging

from alflow.errors import StoreError, Unavailable
from alflow.store import CampaignState, Lease, Store

__all__ = ["give_back"]

log = logging.getLogger("alflow")


def give_back(store: Store, lease: Lease, state: CampaignState, reason: str, wrong: BaseException | None) -> None:
    """Release a lease; that it could not be released must not hide what went wrong before.

    Args:
        store: The database.
        lease: The lease.
        state: How the campaign ended.
        reason: Why.
        wrong: What went wrong before; after a database that stayed away, it is tried only once.

    Raises:
        StoreError: It could not be released, and nothing else was wrong; ``Unavailable`` if the database stayed away.
    """
    try:
        store.release(lease, state, reason, patience_s=0.0 if isinstance(wrong, Unavailable) else None)
    except StoreError as error:
        if wrong is None:
            raise
        log.info("It could not be given back (%s); whoever goes on takes it over.", error)
