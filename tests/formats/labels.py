"""Labels of every kind that a file may have to hold, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.formats import Entry

LEVEL = Level("toy", {"note": 'said "so" \\ and {more}', "width_per_ang": 1.9})

numbers = st.one_of(
    st.floats(-1e3, 1e3),
    st.sampled_from([0.1 + 0.2, 1 / 3, -1e-17, 5e-324, 1.0, -0.0, 123456789.123456789]),
)
diagnostics = st.fixed_dictionaries(
    {},
    optional={
        "scf_cycles": st.integers(0, 99),
        "message": st.sampled_from(["", "with spaces", 'a "quoted" \\n back\\slash', "line\nbreak", "é Å"]),
        "dipole_e_ang": st.lists(numbers, min_size=3, max_size=3),
        "gaps_ev": st.lists(numbers, max_size=3),
    },
)


@st.composite
def structures(draw: Any, partly: bool = True) -> Structure:
    """Molecules, ions, radicals; crystals, and slabs if asked for; cells that are there and do not repeat."""
    n = draw(st.integers(1, 4))
    elements = draw(st.lists(st.sampled_from([1, 6, 8, 14, 29, 79]), min_size=n, max_size=n))
    positions = np.array(draw(st.lists(numbers, min_size=3 * n, max_size=3 * n))).reshape(n, 3)
    kinds = ["molecule", "crystal", "box"] + ["slab"] * partly
    kind = draw(st.sampled_from(kinds))
    cell = np.zeros((3, 3))
    if kind != "molecule":
        cell = np.array(draw(st.lists(st.floats(-1.0, 1.0), min_size=9, max_size=9))).reshape(3, 3) + 5 * np.eye(3)
    pbc = {"crystal": [True] * 3, "slab": [True, True, False]}.get(kind, [False] * 3)
    return Structure(
        np.array(elements), positions, cell, np.array(pbc), draw(st.integers(-2, 2)), draw(st.integers(1, 4))
    )


@st.composite
def labels(draw: Any, partly: bool = True) -> Label:
    """A label of such a structure, with a symmetric stress or without."""
    structure = draw(structures(partly))
    forces = np.array(draw(st.lists(numbers, min_size=3 * len(structure), max_size=3 * len(structure))))
    stress = None
    if structure.is_periodic and draw(st.booleans()):
        half = np.array(draw(st.lists(st.floats(-0.1, 0.1), min_size=9, max_size=9))).reshape(3, 3)
        stress = half + half.T
    told = draw(diagnostics)
    if draw(st.booleans()):
        told = {**told, "charges_e": draw(st.lists(numbers, min_size=len(structure), max_size=len(structure)))}
    evaluation = Evaluation(draw(numbers), forces.reshape(-1, 3), stress, told)
    return Label(structure, LEVEL, evaluation, {"host": "node 1", "versions": {"alflow": "0.1"}, "wall_s": 1.5})


def content(label: Label | Entry) -> tuple[Any, ...]:
    """Everything that must come back, bit for bit; −0 and 0 are the same energy, as they are the same place."""
    evaluation = label.evaluation
    stress = None if evaluation.stress is None else evaluation.stress.tobytes()
    known = {key: evaluation.diagnostics[key] for key in sorted(evaluation.diagnostics)}
    level = None if label.level is None else label.level.id
    return label.structure.id, (evaluation.energy + 0.0).hex(), evaluation.forces.tobytes(), stress, known, level
