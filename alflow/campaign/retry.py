"""Trying again what was given up: who asks for it, and the event it becomes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console

from alflow.campaign.events import RetriedFrame, RetryRequested
from alflow.domain import FailureKind
from alflow.errors import ConfigError, did_you_mean
from alflow.store import CampaignRecord, JobRecord, Store
from alflow.store.location import shown

__all__ = ["ask_retry", "retries_wanted", "retry_hint"]


def ask_retry(
    console: Console, database: str, words: Sequence[str] = (), failure: str | None = None
) -> tuple[str, ...]:
    """Ask for fresh attempts at labels that were given up.

    A process that drives the campaign takes it up within some seconds; otherwise the next ``alflow resume`` does.

    Args:
        console: Where to say what was asked for.
        database: SQLite file or PostgreSQL URL.
        words: The name of the campaign, which may be left out if there is only one; then beginnings of the ids of
            frames. Without any, all that were given up.
        failure: Only those whose last failure was of this class, such as ``SCF_FAIL``.

    Returns:
        The frames.

    Raises:
        ConfigError: The campaign has finished, or is no campaign, or nothing that was given up is meant.
        StoreError: No such database or campaign.
    """
    with Store.open(database) as store:
        named = bool(words) and words[0] in {campaign.name for campaign in store.campaigns()}
        campaign = store.campaign(words[0] if named else None)
        _refuse_the_end(campaign)
        given_up = store.jobs(campaign.id, state="quarantined")
        meant = _meant(campaign, given_up, words[1:] if named else words, failure)
        asked = store.request_retry(campaign.id, [job.id for job in meant])
    kinds = sorted({str(job.failure_kind) for job in meant})
    told = f"{asked} label(s) of '{campaign.name}' will be tried again ({', '.join(kinds)})."
    if campaign.holder is None:
        told += f"\nNobody drives it: alflow resume {shown(database)} {shlex.quote(campaign.name)}"
    console.print(told, highlight=False, markup=False, soft_wrap=True)
    return tuple(job.frame_id for job in meant)


def retries_wanted(store: Store, campaign_id: int) -> RetryRequested | None:
    """The event of all labels that somebody asked for again since it was last looked; None if there are none."""
    frames = []
    for job in store.jobs(campaign_id, state="quarantined"):
        if job.retry_requested:
            frame = store.frame(job.frame_id)
            walker = -1 if frame.walker is None else frame.walker
            frames.append(
                RetriedFrame(job.frame_id, job.structure_id, job.purpose, job.priority, walker, frame.generation or 0)
            )
    return RetryRequested(tuple(frames)) if frames else None


def retry_hint(campaign: CampaignRecord, database: str) -> str:
    """What can be done for the labels a campaign has given up."""
    if "labelling" in campaign.config:
        return "The same 'alflow label' command tries them again."
    if campaign.state == "finished":
        return "The campaign has finished: they stay without a label."
    return f"Try them again: alflow retry {shown(database)} {shlex.quote(campaign.name)} [FRAME …]"


def _refuse_the_end(campaign: CampaignRecord) -> None:
    if "labelling" in campaign.config:
        raise ConfigError(
            f"'{campaign.name}' are labels of a file of structures; the same 'alflow label' command tries those again "
            "that were given up."
        )
    if campaign.state == "finished":
        raise ConfigError(
            f"Campaign '{campaign.name}' has finished ({campaign.reason}), so nothing of it is labelled any more. "
            "Begin another campaign in the same database: labels that exist are not computed again."
        )


def _meant(
    campaign: CampaignRecord, given_up: Sequence[JobRecord], prefixes: Sequence[str], failure: str | None
) -> list[JobRecord]:
    """Those of the labels given up that are asked for."""
    kinds = [kind.value for kind in FailureKind]
    if failure is not None and failure not in kinds:
        raise ConfigError(f"--failure {failure}: expected one of {', '.join(kinds)}.{did_you_mean(failure, kinds)}")
    for prefix in prefixes:
        if not any(job.frame_id.startswith(prefix) for job in given_up):
            raise ConfigError(
                f"'{campaign.name}' has given up no frame that begins with '{prefix}'. Given up: "
                f"{', '.join(job.frame_id for job in given_up[:10]) or 'none'}."
            )
    meant = [job for job in given_up if not prefixes or any(job.frame_id.startswith(prefix) for prefix in prefixes)]
    meant = [job for job in meant if failure is None or job.failure_kind == failure]
    if not meant:
        found = sorted({str(job.failure_kind) for job in given_up})
        raise ConfigError(
            f"Nothing to try again in '{campaign.name}': {len(given_up)} labels are given up"
            + (f" ({', '.join(found)})." if found else ".")
        )
    return meant
