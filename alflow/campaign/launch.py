"""How a campaign is begun, taken up again, looked at and stopped."""

from __future__ import annotations

import logging
import shlex
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from alflow.campaign.bookmark import Bookmark
from alflow.campaign.broadcast import broadcasting
from alflow.campaign.config import CampaignConfig, available_cores, comparable, parse_config
from alflow.campaign.ending import give_back
from alflow.campaign.executors import Executor, InlineExecutor
from alflow.campaign.executors.dask import ClusterWorkers, DaskExecutor, LocalWorkers, SlurmWorkers
from alflow.campaign.given import check_labels
from alflow.campaign.interrupts import interruptible
from alflow.campaign.leftovers import keep_leftovers, spooled_now
from alflow.campaign.pools import check_resources, fitted, pool_table, pools_of, threads_for
from alflow.campaign.preflight import check_campaign, read_starting_structures
from alflow.campaign.runner import BEAT_S, Observer, Runner
from alflow.campaign.site import PATIENCE_S, Site, folder_of, structure_from_json, structure_to_json, working_folder
from alflow.campaign.slurm_config import SlurmCluster
from alflow.campaign.state import State
from alflow.campaign.teacher import make_reference
from alflow.domain import Reference, Structure
from alflow.errors import AlflowError, CampaignError, CampaignPaused, ConfigError, StoreError, Unavailable
from alflow.store import CampaignRecord, CampaignState, Holder, Lease, Store
from alflow.store.location import is_server, shown

__all__ = ["Ended", "resume_campaign", "run_campaign"]

log = logging.getLogger("alflow")

MAY_CHANGE = ("cores", "executor", "pools", "cluster")
"""Settings with which a campaign may go on differently: where it runs changes nothing it has found."""


@dataclass(frozen=True)
class Ended:
    """How a campaign came to its end, or to its stop.

    Attributes:
        state: The loop's last state.
        database: Where everything is.
        name: Name of the campaign.
        folder: Where its files are.
        committee: The weight file of the active committee; None if there is none.
    """

    state: State
    database: str
    name: str
    folder: Path
    committee: Path | None


def run_campaign(
    config: CampaignConfig,
    reference: Reference | None = None,
    observers: Sequence[Observer] = (),
    executor: Executor | None = None,
) -> Ended:
    """Run a campaign to its end; begin it if it is new, take it up where it was left if it is not.

    Args:
        config: What to do.
        reference: An object of the user's own that makes the labels, instead of ``config.reference``.
        observers: Who watches.
        executor: Where tasks run, instead of ``config.executor``; closed at the end.

    Raises:
        InputError: The configuration or the structures cannot be used; nothing was run.
        CampaignLocked: Another live process drives this campaign.
        CampaignPaused: The database went away and did not come back within :data:`PATIENCE_S`.
        CampaignError: The cluster is gone for good, or alflow has a defect, whose traceback is stored as the reason.
        StoreError: The database cannot be used.
    """
    structures = read_starting_structures(config)
    check_campaign(config, structures, reference)
    with Store.open(config.database, create=True, patience_s=PATIENCE_S) as store:
        source = reference if reference is not None else make_reference(config.reference)
        record = _find_or_create(store, config, structures, source)
        if record.state == "finished":
            return _ended_before(store, record, config)
        return _drive(store, record, config, structures, source, observers, executor)


def resume_campaign(
    database: str,
    name: str | None = None,
    reference: Reference | None = None,
    observers: Sequence[Observer] = (),
    executor: Executor | None = None,
) -> Ended:
    """Take up a campaign from its database alone.

    Args:
        database: File or URL.
        name: Name of the campaign; may be left out when there is only one.
        reference: The user's own reference, if the campaign was begun with one.
        observers: Who watches.
        executor: Where tasks run, instead of the configured one.

    Raises:
        StoreError: No such database or campaign.
        CampaignLocked: Another live process drives this campaign.
    """
    with Store.open(database, upgrade=True, patience_s=PATIENCE_S) as store:
        record = store.campaign(name)
        if "labelling" in record.config:
            raise ConfigError(
                f"'{record.name}' are labels of a file; the same 'alflow label' command continues them, or "
                "'alflow import' if they were imported."
            )
        config = parse_config(record.config["config"], f"the stored configuration of '{record.name}'")
        config = config.model_copy(update={"database": database})
        if record.state == "finished":
            return _ended_before(store, record, config)
        config = fitted(config)
        check_resources(config)
        structures = tuple(structure_from_json(data) for data in record.config["structures"])
        source = reference if reference is not None else make_reference(config.reference)
        return _drive(store, record, config, structures, source, observers, executor)


def _find_or_create(
    store: Store, config: CampaignConfig, structures: tuple[Structure, ...], reference: Reference
) -> CampaignRecord:
    settings, geometries = comparable(config), [structure_to_json(s) for s in structures]
    for record in store.campaigns():
        if record.name != config.name:
            continue
        if "labelling" in record.config:
            raise ConfigError(
                f"{shown(config.database)} has labels of a file named '{config.name}'; choose another name."
            )
        before = comparable(parse_config(record.config["config"], f"the stored configuration of '{record.name}'"))
        changed = sorted(
            key
            for key in settings
            if _without_place(before.get(key)) != _without_place(settings[key]) and key not in MAY_CHANGE
        )
        if record.config["structures"] != geometries:
            changed.append("structures")
        if changed:
            raise ConfigError(
                f"{shown(config.database)} already has a campaign named '{config.name}' with other settings "
                f"({', '.join(changed)}); choose another name or another database, or run it unchanged to continue it."
            )
        return record if before == settings else replace(record, config={**record.config, "config": settings})
    if config.initial.labels:
        check_labels(store, config, structures, reference.level)
    stored = {"config": settings, "structures": geometries, "level_id": reference.level.id}
    if is_server(config.database):
        stored["folder"] = str(working_folder(config.database, config.name).absolute())
    try:
        return store.create_campaign(config.name, stored, config.seed)
    except StoreError:
        if all(record.name != config.name for record in store.campaigns()):
            raise
        return _find_or_create(store, config, structures, reference)  # another process was faster, in this instant


def _without_place(value: Any) -> Any:
    """A setting without ``threads``: on how many a label runs changes nothing it finds."""
    return {key: item for key, item in value.items() if key != "threads"} if isinstance(value, dict) else value


def _drive(
    store: Store,
    record: CampaignRecord,
    config: CampaignConfig,
    structures: tuple[Structure, ...],
    reference: Reference,
    observers: Sequence[Observer],
    executor: Executor | None,
) -> Ended:
    if record.config.get("level_id") != reference.level.id:
        raise ConfigError(
            f"Campaign '{record.name}' was begun with labels at another level of theory "
            f"({str(record.config.get('level_id'))[:12]}…) than this reference makes ({reference.level.engine}, "
            f"{reference.level.id[:12]}…); pass the reference it was begun with, or begin another campaign. "
            "One that an older alflow began may have to be ended with that version: see the changelog."
        )
    folder = folder_of(record, config.database)
    site = Site(record.id, config, structures, reference, folder)
    lease = _acquire(store, site)
    workers: Executor | None = None
    ending: tuple[CampaignState, str] = ("stopped", "the orchestrator ended without finishing")
    wrong: Exception | None = None
    try:
        for part in (site.spool, site.weights):
            part.mkdir(parents=True, exist_ok=True)
        _note_place(store, lease, record)
        with _beating_meanwhile(store, lease) as begun:
            workers = executor if executor is not None else _workers(config, folder, _beating(store, lease))
            if workers.dashboard:
                log.info("Dashboard: %s", _page_of(workers.dashboard))
            with broadcasting(config.database, config.name, workers.board) as watchers:
                runner = Runner(store, lease, site, workers, (*observers, *watchers))
                with interruptible(runner.request_stop):
                    state = runner.run(begun)
        ending = (state.phase if state.phase in ("finished", "failed") else "stopped", state.reason)
        if state.phase == "finished":
            _keep_late(store, lease, site.spool, reference.level.id)
    except Unavailable as error:
        ending, wrong = ("stopped", str(error)), error
        raise CampaignPaused(_how_to_go_on(site, error)) from None
    except AlflowError as error:
        ending, wrong = ("stopped", str(error)), error
        raise
    except Exception as error:
        ending, wrong = ("failed", traceback.format_exc()), error
        raise CampaignError(_how_to_go_on_when_mended(site, error)) from error
    finally:
        try:
            _close(workers)
        finally:
            _release(store, site, lease, *ending, wrong)
    return Ended(state, config.database, config.name, folder, _active_committee(store, record, folder))


def _acquire(store: Store, site: Site) -> Lease:
    try:
        return store.acquire(site.campaign_id, Holder.current())
    except Unavailable as error:
        raise CampaignPaused(_how_to_go_on(site, error)) from None


def _note_place(store: Store, lease: Lease, record: CampaignRecord) -> None:
    """Keep where the campaign runs now: who resumes it from its database alone goes on in the same place."""
    if store.campaign(record.name).config != record.config:
        with store.transaction(lease) as tx:
            tx.set_config(record.config)


def _ended_before(store: Store, record: CampaignRecord, config: CampaignConfig) -> Ended:
    """A finished campaign is not run again: its end is told once more. Labels that came after it are kept."""
    log.info("Campaign '%s' has finished (%s); nothing is left to do.", record.name, record.reason)
    folder = folder_of(record, config.database)
    if spooled_now(folder / "spool"):
        try:
            lease = store.acquire(record.id, Holder.current())
            _keep_late(store, lease, folder / "spool", str(record.config["level_id"]))
            store.release(lease, "finished", record.reason)
        except StoreError as error:
            log.warning("The end of '%s' could not be written once more (%s).", record.name, error)
    state = Bookmark(store, record.id, folder).replay()
    if state is None:
        raise CampaignError(f"Campaign '{record.name}' is marked as finished, but its journal is empty.")
    return Ended(state, config.database, config.name, folder, _active_committee(store, record, folder))


def _keep_late(store: Store, lease: Lease, spool: Path, level_id: str) -> None:
    """Store labels that came when nobody waited for them; what goes wrong here is no failure of a campaign's end."""
    try:
        keep_leftovers(store, lease, spool, level_id)
    except StoreError as error:
        log.warning("Labels in %s could not be stored (%s); the same command tries again.", spool, error)


def _active_committee(store: Store, record: CampaignRecord, folder: Path) -> Path | None:
    active = store.active_committee(record.id)
    return None if active is None else folder / "weights" / f"{active.sha256}.safetensors"


def _how_to_go_on(site: Site, away: Unavailable) -> str:
    """What to say when a campaign pauses because its database stayed away."""
    config = site.config
    return (
        f"{away} It stayed so for {PATIENCE_S:g} s, and '{config.name}' pauses. What was committed is safe; labels "
        f"that were finished meanwhile wait in {site.spool}. As soon as the database can be used again: "
        f"{_command('resume', site)}"
    )


def _how_to_go_on_when_mended(site: Site, defect: Exception) -> str:
    """What to say when the orchestrator itself raised an exception."""
    raised = " ".join(f"{type(defect).__name__}: {defect}".split())
    return (
        f"A defect in alflow, or in what watches it, ended '{site.config.name}' ({raised}). What was committed is "
        f"safe; {_command('status', site)} shows the traceback. When it is mended: {_command('resume', site)}"
    )


def _command(verb: str, site: Site) -> str:
    return f"alflow {verb} {shown(site.config.database)} {shlex.quote(site.config.name)}"


def _close(workers: Executor | None) -> None:
    """End the workers; what is wrong with their end must not hide how the campaign ended, nor keep its lease."""
    try:
        if workers is not None:
            workers.close()
    except Exception as error:
        log.warning("The workers could not be ended properly (%s: %s).", type(error).__name__, error)


def _release(
    store: Store, site: Site, lease: Lease, state: CampaignState, reason: str, wrong: Exception | None
) -> None:
    try:
        give_back(store, lease, state, reason, wrong)
    except Unavailable as error:
        raise CampaignPaused(_how_to_go_on(site, error)) from None


def _page_of(dashboard: str) -> str:
    """Address of the campaign's page beside Dask's own.

    Examples:
        >>> _page_of("http://127.0.0.1:8787/status")
        'http://127.0.0.1:8787/alflow'
    """
    return f"{dashboard.rpartition('/')[0]}/alflow"


def _beating(store: Store, lease: Lease) -> Callable[[], None]:
    """What ends, called again and again, the wait for workers of a campaign that was taken over meanwhile."""
    beaten = time.monotonic()

    def beat() -> None:
        nonlocal beaten
        if time.monotonic() - beaten > BEAT_S:
            beaten = time.monotonic()
            store.beat(lease)

    return beat


@contextmanager
def _beating_meanwhile(store: Store, lease: Lease) -> Iterator[Callable[[], None]]:
    """Show that the campaign is driven while workers start and the journal is read, until what is given is called.

    It takes a thread, because starting workers is one call into Dask.
    """
    begun = threading.Event()

    def beat() -> None:
        while not begun.wait(BEAT_S):
            try:
                store.beat(lease)
            except Unavailable:
                continue  # it may come back, and this process still lives
            except StoreError:
                return  # the campaign was taken over; the next write tells

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield begun.set
    finally:
        begun.set()
        thread.join(BEAT_S)


def _workers(config: CampaignConfig, folder: Path, waiting: Callable[[], None]) -> Executor:
    if config.executor == "inline":
        return InlineExecutor(config.reference.threads)
    if isinstance(config.cluster, SlurmCluster):
        return DaskExecutor(SlurmWorkers(config, folder))
    if config.cluster != "local":
        return DaskExecutor(ClusterWorkers(config.cluster, partial(threads_for, config), folder, waiting))
    pools = pools_of(config)
    log.info("%s", pool_table(pools, config.cores or available_cores()))
    return DaskExecutor(LocalWorkers(pools, config.dashboard_address))
