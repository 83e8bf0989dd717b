"""Selecting: the same frames as plain Python would, on both databases; as records, arrays and SQL."""

from __future__ import annotations

import math
import re
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alflow.domain import Evaluation, FailureKind, Label, Level, Structure
from alflow.errors import QueryError, StoreError
from alflow.store import (
    CommitteeRecord,
    ExecutionEnd,
    ExecutionRecord,
    Expression,
    FrameRecord,
    Holder,
    JobRecord,
    Store,
    column,
)
from alflow.store.asking import paging
from alflow.store.asking.columns import COLUMNS, Described, Kind
from alflow.store.asking.expressions import Among, And, Between, Column, Comparison, IsNull, Like, Not, Or
from alflow.store.asking.parsing import parse_question

LEVEL = Level("toy", {"well_ev": 4.5})
SCALARS = [about for about in COLUMNS if about.kind is not Kind.ARRAY]
N = 40


def structure(number: int) -> Structure:
    atoms = "OHH" if number % 3 else "COHHHH"
    positions = np.arange(3.0 * len(atoms)).reshape(-1, 3)
    positions[0, 0] = 0.001 * number
    if number % 7 == 0:
        return Structure.of(list(atoms), positions, cell=[9.0, 9.0, 9.0])
    return Structure.of(list(atoms), positions, charge=number % 2, multiplicity=1 + number % 2)


def label(number: int, level: Level = LEVEL) -> Label:
    it = structure(number)
    forces = np.random.default_rng(number).normal(size=(len(it), 3))
    stress = np.eye(3) * number if it.is_periodic else None
    told = {"scf_cycles": number, "gap_ev": {"alpha": 7.5}}
    return Label(it, level, Evaluation(-76.0 - number / 7, forces, stress, told), {"host": "node1"})


def fill(store: Store, campaign: str = "water", level: Level = LEVEL) -> None:
    """Forty frames: seeds, flagged and dropped ones, some of them labelled, given up or waiting."""
    record = store.create_campaign(campaign, {}, seed=1)
    lease = store.acquire(record.id, Holder.current())
    with store.transaction(lease) as tx:
        tx.add_level(level)
        members: list[Any] = []
        for number in range(N):
            seen = number >= 8
            tx.append_event("segment_done", {})
            frame = FrameRecord(
                id=f"{campaign[0]}{number:03d}_%*",
                campaign_id=record.id,
                structure_id=structure(number).id,
                origin="walker" if seen else "seed",
                decision=("flagged", "audit", "dropped", "duplicate")[number % 4] if seen else "seed",
                walker=number % 5 if seen else None,
                step=10**10 * number if seen else None,
                time=0.25 * number if seen else None,
                generation=number // 10 if seen else None,
                disagreement=0.05 * number if seen else None,
                threshold=0.5 if seen else None,
                reason="over 'the' threshold" if seen else "",
                predicted_energy=-75.9 - number / 7 if seen else None,
                event_seq=2 * number + 1,
            )
            tx.add_frame(frame, structure(number))
            add_label(tx, record.id, frame, number, level, members)
        tx.add_dataset(f"{campaign}1".ljust(64, "0"), members[:9])
        tx.add_dataset(f"{campaign}2".ljust(64, "0"), members[:12])
        for generation, state, mae in ((1, "superseded", 0.05), (2, "rejected", 0.5), (2, "active", None)):
            digest = f"{campaign}{generation}".ljust(64, "0")
            ends = {"audit_force_mae_lower_ev_ang": 0.04, "audit_force_mae_upper_ev_ang": 0.06}
            metrics = {"audit_force_mae_ev_ang": mae, **ends} if mae else {}
            tx.add_committee(
                CommitteeRecord(record.id, generation, f"{generation}" * 64, "w", digest, state=state, metrics=metrics)  # type: ignore[arg-type]
            )
    store.release(lease, "finished")


def add_label(tx: Any, campaign_id: int, frame: FrameRecord, number: int, level: Level, members: list[Any]) -> None:
    if frame.decision in ("dropped", "duplicate"):
        tx.append_event("nothing", {})
        return
    purpose = frame.decision
    job = JobRecord(f"j-{frame.id}", campaign_id, frame.id, frame.structure_id, level.id, purpose)
    if number % 9 == 1:
        failed = {"failure_kind": FailureKind.SCF_FAIL, "attempts": 2}
        tx.put_job(JobRecord(**{**vars(job), "state": "quarantined", "event_seq": 2 * number + 2, **failed}))
        tx.append_event("label_failed", {})
        return
    if number % 9 == 2:
        tx.put_job(job)
        tx.append_event("nothing", {})
        return
    key = f"{campaign_id}-{number}"
    tx.start_execution(ExecutionRecord(campaign_id, key, "label", job.id))
    cost = {"host": f"node{number % 3}", "wall_s": 1.5 * number, "peak_memory_mb": 100.0 + number}
    tx.finish_execution(ExecutionEnd(key, "done", **cost))
    tx.add_label(label(number, level), key)
    tx.put_job(JobRecord(**{**vars(job), "state": "done", "attempts": 1, "event_seq": 2 * number + 2}))
    error = None if frame.disagreement is None else 0.02 * number
    tx.append_event("label_done", {"frame_id": frame.id, "max_error": error})
    split = "audit" if purpose == "audit" else "validation" if number % 5 == 0 else "train"
    members.append((frame.structure_id, level.id, split))


@pytest.fixture
def filled(store: Store) -> Store:
    fill(store)
    return store


def ids(selection: Any) -> list[str]:
    return [row["frame_id"] for row in selection.rows("frame_id")]


def holds(question: Expression, row: dict[str, Any]) -> bool | None:
    """Three-valued truth, in Python."""
    match question:
        case And(parts):
            known = [holds(part, row) for part in parts]
            return False if False in known else None if None in known else True
        case Or(parts):
            known = [holds(part, row) for part in parts]
            return True if True in known else None if None in known else False
        case Not(part):
            inner = holds(part, row)
            return None if inner is None else not inner
        case IsNull(about):
            return row[about.name] is None
        case Comparison(about, sign, other):
            value, right = row[about.name], row[other.name] if isinstance(other, Described) else other
            if value is None or right is None:
                return None
            signs = {"=": value == right, "!=": value != right}
            if sign in signs:
                return bool(signs[sign])
            return bool({"<": value < right, "<=": value <= right, ">": value > right, ">=": value >= right}[sign])
        case Among(about, values):
            return None if row[about.name] is None else row[about.name] in values
        case Between(about, low, high):
            return None if row[about.name] is None else bool(low <= row[about.name] <= high)
        case Like(about, pattern):
            signs = {"%": ".*", "_": "."}
            fitting = "".join(signs.get(letter, re.escape(letter)) for letter in pattern)
            found = row[about.name]
            return None if found is None else re.fullmatch(fitting, found, re.DOTALL) is not None
    raise AssertionError(question)


def questions(rows: list[dict[str, Any]]) -> st.SearchStrategy[Expression]:
    """Questions about columns, with values that some of the rows have, or nearly."""
    numbers = [about for about in SCALARS if about.kind in (Kind.NUMBER, Kind.WHOLE)]

    def single(about: Described) -> st.SearchStrategy[Expression]:
        found = [row[about.name] for row in rows if row[about.name] is not None]
        values = st.sampled_from(found)
        it = Column(about)
        equal = st.one_of(
            st.just(it.is_null()),
            values.map(lambda value: it == value),
            values.map(lambda value: it != value),
            st.lists(values, min_size=1, max_size=4).map(it.is_in),
        )
        if about.kind in (Kind.TEXT, Kind.WORD):
            cut = st.tuples(values, st.integers(0, 6), st.sampled_from(["%", "_", "", "%_", "[%", "*", "?", "\\%"]))
            return equal | cut.map(lambda it_: it.like(it_[0][: it_[1]] + it_[2]))
        if about.kind is Kind.NUMBER:
            values = values | st.floats(-100, 100)
        elif about.kind is Kind.WHOLE:
            values = values | st.integers(-(2**63) + 1, 2**63 - 1)
        same = st.sampled_from([Column(other) for other in numbers if other.unit == about.unit] or [it])
        ordered = values | same if about.kind is not Kind.TIME else values
        return st.one_of(
            equal,
            ordered.map(lambda value: it < value),
            ordered.map(lambda value: it <= value),
            ordered.map(lambda value: it > value),
            ordered.map(lambda value: it >= value),
            st.tuples(values, values).map(lambda ends: it.between(*ends)),
        )

    singles = st.sampled_from(SCALARS).flatmap(single)
    return st.recursive(
        singles,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda two: two[0] & two[1]),
            st.tuples(inner, inner).map(lambda two: two[0] | two[1]),
            inner.map(lambda one: ~one),
        ),
        max_leaves=6,
    )


def test_the_database_selects_what_python_would(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(filled.select().rows(*(about.name for about in SCALARS)))
    assert len(rows) == N
    assert all(
        any(row[about.name] is not None for row in rows)
        for about in SCALARS
        if about.name not in ("force_std_ev_ang", "extrapolation")
    )
    monkeypatch.setattr(paging, "_PAGE", 7)
    monkeypatch.setattr(paging, "_IDS", 5)
    known = [{**row, "force_std_ev_ang": row["time_fs"], "extrapolation": row["time_fs"]} for row in rows]

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(questions(known), st.sampled_from([0, 3, 10**6]))
    def check(question: Expression, few: int) -> None:
        monkeypatch.setattr(paging, "FEW", few)  # by walking over all frames, or by their ids
        expected = [row["frame_id"] for row in rows if holds(question, row)]
        selection = filled.select(question)
        assert ids(selection) == expected
        assert selection.count() == len(expected)
        assert ids(filled.select(question, limit=3)) == expected[:3]

    check()


def test_the_view_has_the_same_rows_and_columns(filled: Store) -> None:
    rows = list(filled.select().rows(*(about.name for about in COLUMNS)))
    connection = filled.connect_read_only()
    cursor = connection.execute("SELECT * FROM frames_v ORDER BY event_seq")
    assert [item[0] for item in cursor.description] == [about.name for about in COLUMNS]
    found = cursor.fetchall()
    connection.close()
    assert len(found) == N
    for row, values in zip(rows, found, strict=True):
        for about, value in zip(COLUMNS, values, strict=True):
            mine = row[about.name]
            if about.kind is Kind.ARRAY and value is not None:
                dtype = "<i8" if about.name == "numbers" else "<f8"
                assert np.array_equal(np.frombuffer(value, dtype, offset=16), mine.ravel()), about.name
            elif about.kind is Kind.TIME and value is not None:
                seen = datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value
                assert seen == mine
            else:
                assert value == mine, about.name


@pytest.mark.parametrize("view", ["labels_v", "learning_curve_v"])
def test_the_columns_of_views_are_those_that_are_promised(filled: Store, view: str) -> None:
    text = " ".join((Path(__file__).parents[2] / "docs/query.md").read_text(encoding="utf-8").split())
    told = re.search(rf"- `{view}`: [^:.]*: ([^.]*)\.", text)
    assert told is not None
    connection = filled.connect_read_only()
    cursor = connection.execute(f"SELECT * FROM {view} LIMIT 0")
    assert [item[0] for item in cursor.description] == told.group(1).split(", ")
    connection.close()


def test_labels_and_the_learning_curve_have_views(filled: Store) -> None:
    connection = filled.connect_read_only()
    labels = connection.execute("SELECT purpose, split, count(*) FROM labels_v GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
    curve = connection.execute(
        "SELECT campaign, generation, state, n_train, n_validation, n_audit, audit_force_mae_ev_ang, "
        "audit_force_mae_lower_ev_ang, audit_force_mae_upper_ev_ang FROM learning_curve_v ORDER BY generation"
    ).fetchall()
    connection.close()
    by_python: dict[tuple[Any, Any], int] = {}
    for row in filled.select("energy is not null").rows("purpose", "split"):
        by_python[row["purpose"], row["split"]] = by_python.get((row["purpose"], row["split"]), 0) + 1
    assert {(purpose, split): number for purpose, split, number in labels} == by_python
    assert {split for _, split, _ in labels} == {"audit", "train", "validation", None}
    assert [tuple(row) for row in curve] == [
        ("water", 1, "superseded", 6, 2, 1, 0.05, 0.04, 0.06),
        ("water", 2, "active", 7, 2, 3, None, None, None),
    ]


def test_frames_structures_labels_and_arrays_are_those_of_the_store(filled: Store) -> None:
    campaign = filled.campaign()
    frames = list(filled.frames(campaign.id))
    assert [frame.id for frame in filled.select().frames()] == [frame.id for frame in frames]
    assert list(filled.select().structures()) == [structure(number) for number in range(N)]
    labels = list(filled.select().labels())
    expected = list(filled.labels(campaign.id))
    assert [it.key for it in labels] == [it.key for it in expected]
    assert len(labels) > 10
    for mine, theirs in zip(labels, expected, strict=True):
        assert np.array_equal(mine.evaluation.forces, theirs.evaluation.forces)
        assert mine.evaluation.diagnostics == theirs.evaluation.diagnostics
        assert mine.evaluation.diagnostics["gap_ev"] == {"alpha": 7.5}
    for frame, job, it in filled.select("decision = audit").labelled():
        assert (frame.id, job.state, job.structure_id) == (job.frame_id, "done", it.structure.id)
        assert frame.decision == job.purpose == "audit"
    (page,) = filled.select("generation is null or generation > 0").arrays(
        "generation", "energy", "n_atoms", "positions"
    )
    assert page["generation"].dtype == np.float64
    assert np.isnan(page["generation"][:8]).all()
    assert page["n_atoms"].dtype == np.int64
    assert np.isnan(page["energy_ev"]).sum() == sum(
        row["energy_ev"] is None for row in filled.select("generation is null or generation > 0").rows("energy")
    )
    assert np.array_equal(page["positions_ang"][1], structure(1).positions)


def test_rows_come_in_any_order_with_missing_values_last(filled: Store) -> None:
    for descending in (False, True):
        for name in ("disagreement_ev_ang", "energy_ev", "max_force_error_ev_ang", "decision", "labelled_at", "split"):
            found = [row[name] for row in filled.select(order_by=name, descending=descending).rows(name)]
            there = [value for value in found if value is not None]
            if name not in ("decision", "split"):  # the databases order texts by rules of their own
                assert there == sorted(there, reverse=descending)
            assert len(found) == N
            assert None not in found[: len(there)]
    top = filled.select("generation >= 2", order_by="disagreement", descending=True, limit=2)
    assert [round(row["disagreement_ev_ang"], 3) for row in top.rows("disagreement")] == [1.95, 1.9]
    assert filled.select(limit=0).count() == 0
    assert ids(filled.select(limit=0)) == []


def test_campaigns_and_levels_can_be_kept_apart(filled: Store) -> None:
    other = Level("toy", {"well_ev": 9.0})
    fill(filled, "ice", other)
    assert filled.select().count() == 2 * N
    assert filled.select(campaign="ice").count() == N
    assert [row["campaign"] for row in filled.select("campaign = ice", limit=1).rows("campaign")] == ["ice"]
    with pytest.raises(QueryError, match=r"of 2 levels of theory, which cannot be mixed: .*Choose one with level"):
        list(filled.select().labels())
    assert (
        len(list(filled.select(campaign="ice").labels())) == len(list(filled.select(level=other.id[:8]).labels())) > 0
    )
    with pytest.raises(QueryError, match="No level of theory begins with 'zz'"):
        filled.select(level="zz")
    with pytest.raises(StoreError, match="Did you mean 'water'"):
        filled.select(campaign="watre")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order_by": "forces"}, "has no order"),
        ({"order_by": "disagrement"}, "Did you mean 'disagreement'"),
        ({"descending": True}, "needs a column to order by"),
        ({"limit": -1}, "0 or more; found -1"),
        ({"where": column.walker}, "found a Column"),
        ({"where": True}, "found a bool"),
    ],
)
def test_wrong_arguments_are_told(store: Store, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        store.select(**arguments)


@pytest.mark.parametrize(
    "attack",
    [
        "'; DROP TABLE frames; --",
        "' OR '1'='1",
        "x' UNION SELECT name FROM sqlite_master --",
        "$$; DROP TABLE frames; $$",
        "%(name)s :name ? %s",
        "\\'; DROP TABLE frames; --",
    ],
)
def test_nothing_a_user_writes_becomes_sql(filled: Store, attack: str) -> None:
    quoted = "'" + attack.replace("'", "''") + "'"
    for name in ("host", "reason", "campaign", "frame_id"):
        assert filled.select(f"{name} = {quoted} or {name} in ({quoted}) or {name} like {quoted}").count() == 0
    assert filled.select(column.host == attack).count() == 0
    for text in (f"host = {attack}", attack, f"{attack} = 1", f"walker = 1 {attack}"):
        with pytest.raises(QueryError):
            parse_question(text)
    for arguments in ({"order_by": attack}, {"level": attack}):
        with pytest.raises(QueryError):
            filled.select(**arguments)  # type: ignore[arg-type]
    with pytest.raises(QueryError):
        list(filled.select().rows(attack))
    assert filled.select().count() == N


def test_the_offered_connection_cannot_write(filled: Store) -> None:
    connection = filled.connect_read_only()
    for statement in ("DELETE FROM frames", "CREATE TABLE mine (id INTEGER)", "UPDATE labels SET energy_ev = 0"):
        with pytest.raises(
            (sqlite3.OperationalError, psycopg.errors.ReadOnlySqlTransaction), match=r"readonly|read-only"
        ):
            connection.execute(statement)
        connection.rollback()
    connection.close()
    assert filled.select().count() == N


def test_a_snapshot_selects_what_was_there_when_it_began(filled: Store) -> None:
    with filled.snapshot() as then:
        before = then.select().count()
        fill(filled, "later")
        assert then.select().count() == before == N
    assert filled.select().count() == 2 * N


def test_a_page_is_read_when_it_is_needed(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_PAGE", 4)
    asked: list[int] = []
    ask = type(filled)._all

    def counted(store: Store, statement: Any) -> Any:
        found = ask(store, statement)
        asked.append(len(found))
        return found

    monkeypatch.setattr(type(filled), "_all", counted)
    found: Iterator[Any] = filled.select().structures()
    for _ in range(5):
        next(found)
    assert asked == [4, 4]


def test_a_data_frame_has_every_row(filled: Store) -> None:
    pandas = pytest.importorskip("pandas")
    table = filled.select("generation >= 1").pandas("frame_id", "energy", "generation", "forces")
    assert list(table.columns) == ["frame_id", "energy_ev", "generation", "forces_ev_ang"]
    assert len(table) == filled.select("generation >= 1").count()
    assert math.isclose(
        table["energy_ev"].sum(), sum(r["energy_ev"] or 0.0 for r in filled.select("generation >= 1").rows("energy"))
    )
    assert len(filled.select("generation > 100").pandas()) == 0
    assert isinstance(table, pandas.DataFrame)


def test_without_pandas_it_is_said_what_to_install(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(QueryError, match=r"needs pandas; install it with: pip install 'alflow\[pandas\]'"):
        filled.select().pandas()


def test_times_are_compared_in_utc(filled: Store) -> None:
    stored = [row["labelled_at"] for row in filled.select("energy is not null").rows("labelled_at")]
    assert all(abs(time - datetime.now(UTC)) < timedelta(hours=1) for time in stored)
    assert filled.select("labelled_at > 2020-01-01").count() == len(stored)
    assert filled.select(column.labelled_at < min(stored)).count() == 0
