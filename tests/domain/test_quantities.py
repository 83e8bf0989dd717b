"""Units are in the names at every border, and they are the units of the table."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from alflow.campaign.config import CampaignConfig
from alflow.domain import Evaluation, Structure
from alflow.domain.quantities import QUANTITIES, unit_of
from alflow.store.tables import TableRow
from alflow.tensors import Prediction

BARE = {
    "initial_labels", "audit_fraction", "friction_per_ps", "walkers", "segment_steps", "label_budget", "charge",
    "multiplicity", "labels_per_generation", "audit_minimum", "queue_capacity", "cores", "seed",
}  # fmt: skip
"""Keys that hold counts, shares or charges: pure numbers."""


def test_every_column_that_holds_a_number_with_a_unit_says_which() -> None:
    for table in TableRow.metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, sa.Double):
                assert unit_of(column.name) or column.name == "priority", f"{table.name}.{column.name}"


def test_every_float_of_the_configuration_says_its_unit() -> None:
    for name, field in CampaignConfig.model_fields.items():
        if "float" in str(field.annotation) and name not in BARE:
            assert unit_of(name), name


def test_columns_use_the_units_of_the_table() -> None:
    columns = {c.name for t in TableRow.metadata.tables.values() for c in t.columns}
    seen = 0
    for quantity in QUANTITIES.values():
        for column in columns:
            if column.startswith(f"{quantity.name}_") and (unit := unit_of(column)):
                assert unit == quantity.unit, column
                seen += 1
    assert seen >= 8


def test_the_nouns_carry_the_names_of_the_table() -> None:
    named = {f.name for noun in (Structure, Evaluation, Prediction) for f in dataclasses.fields(noun)}
    assert named - {"pbc", "diagnostics"} <= set(QUANTITIES)
