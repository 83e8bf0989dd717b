"""Few labels are looked at twice: is the force the slope of the energy, and what would a finer grid have said?

Which ones hangs on the structure's own hash, so that it is the same whoever computes it and whenever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from alflow.domain import Evaluation, Failure, FailureKind, Outcome, Reference, Structure

__all__ = ["grid_doubt", "is_drawn", "spot_check"]

STEP_ANG: Final = 0.002
"""Half the distance between the two energies, along the forces: of the 3N-dimensional step."""

CURVATURE_EV_ANG: Final = 2e-3
"""What the third derivative of a stiff bond adds to a difference over such a step."""

RELATIVE: Final = 1e-4
NOISE_FACTOR: Final = 3.0

UNSTATED_NOISE_EV_ANG: Final = 0.01
"""Force noise of a reference that does not state it."""


def is_drawn(structure: Structure, fraction: float) -> bool:
    """Whether a structure is one of those that are looked at twice.

    Args:
        structure: What is labelled.
        fraction: Share of all structures.
    """
    return int(structure.id[8:16], 16) < fraction * 16**8


def spot_check(reference: Reference, structure: Structure, evaluation: Evaluation) -> Outcome:
    """Look at a label again: two energies along its forces, and a finer integration grid if there is one.

    Args:
        reference: What made it. An attribute ``finer`` (optional) is the same reference with a finer grid, or None; an
            attribute ``plain`` (optional) is the same without further properties.
        structure: What was computed.
        evaluation: The label.

    Returns:
        The label with ``spot_check`` in its diagnostics, and the flag ``coarse-grid`` where a finer one changes the
        forces by more than three times the stated noise; REJECTED if the energy does not follow the forces.
    """
    norm = float(np.linalg.norm(evaluation.forces))
    noise = float(evaluation.diagnostics.get("force_noise_ev_ang", UNSTATED_NOISE_EV_ANG))
    found: dict[str, Any] = {}
    if norm > 0.0:
        slope = _slope(getattr(reference, "plain", reference), structure, evaluation.forces / norm)
        if isinstance(slope, Failure):
            found["displaced"] = f"{slope.kind}: {slope.message}"
        else:
            found["finite_difference_error_ev_ang"] = error = abs(slope + norm)
            limit = CURVATURE_EV_ANG + RELATIVE * norm + NOISE_FACTOR * noise
            if not error <= limit:
                message = (
                    f"The energy does not follow the forces: along them it falls by {-slope:.4f} eV/Å, and they say"
                    f" {norm:.4f}; {limit:.4f} may lie between."
                )
                return Failure(FailureKind.REJECTED, message, {**evaluation.diagnostics, "spot_check": found})
    flags = list(evaluation.diagnostics.get("flags", []))
    finer: Reference | None = getattr(reference, "finer", None)
    outcome = finer.evaluate(structure) if finer is not None else None
    if isinstance(outcome, Evaluation):
        change = float(np.abs(outcome.forces - evaluation.forces).max())
        found["finer_grid_force_change_ev_ang"] = change
        found["finer_grid_energy_change_ev"] = outcome.energy - evaluation.energy
        if change > NOISE_FACTOR * noise:
            flags.append("coarse-grid")
    elif outcome is not None:
        found["finer_grid"] = f"{outcome.kind}: {outcome.message}"
    return replace(evaluation, diagnostics={**evaluation.diagnostics, "flags": flags, "spot_check": found})


def grid_doubt(diagnostics: Mapping[str, Any]) -> str | None:
    """What a finer grid has said against a label that was looked at twice.

    Args:
        diagnostics: Those of the label.

    Returns:
        Half a sentence, or None: it was not looked at, or its forces changed by no more than three times the noise it
        states. A cell's flag ``coarse-grid``, which tells of forces that do not add up, is no doubt: they are in the
        noise it states.

    Examples:
        >>> grid_doubt({"force_noise_ev_ang": 0.002, "spot_check": {"finer_grid_force_change_ev_ang": 0.012}})
        'a finer grid changes its forces by 0.0120 eV/Å, and with its stated noise 0.0060 may be'
        >>> grid_doubt({"force_noise_ev_ang": 0.002}) is None
        True
    """
    change = diagnostics.get("spot_check", {}).get("finer_grid_force_change_ev_ang")
    limit = NOISE_FACTOR * float(diagnostics.get("force_noise_ev_ang", UNSTATED_NOISE_EV_ANG))
    if change is None or change <= limit:
        return None
    return f"a finer grid changes its forces by {change:.4f} eV/Å, and with its stated noise {limit:.4f} may be"


def _slope(reference: Reference, structure: Structure, direction: Any) -> float | Failure:
    """Derivative of the energy along a direction of unit length in all coordinates, eV/Å."""
    energies = []
    for sign in (1.0, -1.0):
        moved = replace(structure, positions=structure.positions + sign * STEP_ANG * direction)
        outcome = reference.evaluate(moved)
        if isinstance(outcome, Failure):
            return outcome
        energies.append(outcome.energy)
    return (energies[0] - energies[1]) / (2.0 * STEP_ANG)
