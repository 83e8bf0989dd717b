"""From the error a user will accept to the disagreement at which a frame is flagged."""

from __future__ import annotations

from typing import Final

__all__ = ["DISAGREEMENT_PER_ERROR", "flag_threshold"]

DISAGREEMENT_PER_ERROR: Final = 5.0
"""Disagreement of a frame in units of the mean absolute error of one force component of one member.

Disagreement is a maximum over pairs of members and over atoms of a vector's length; the error is a mean over
components. If members err independently and normally by the same amount everywhere, four members give a ratio of 5.1
for 3 atoms, 5.8 for 9 and 6.3 for 20, eight members 5.9 to 7.0 (simulated). To be replaced by what calibrated
campaigns measure.
"""


def flag_threshold(target_force_error: float, factor: float = DISAGREEMENT_PER_ERROR) -> float:
    """Set the disagreement from which a frame is flagged: factor × target.

    One simple rule, constant during a campaign, so that a flag means the same thing from the first day to the last.

    Args:
        target_force_error: Mean absolute error of a force component that is good enough, eV/Å.
        factor: Disagreement per error.

    Returns:
        Threshold, eV/Å.

    Raises:
        ValueError: A target or factor that is not above 0.

    Examples:
        >>> flag_threshold(0.05)
        0.25
    """
    if not (target_force_error > 0 and factor > 0):
        raise ValueError(f"Target and factor must be above 0; found {target_force_error} and {factor}.")
    return factor * target_force_error
