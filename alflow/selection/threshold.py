"""From the error a user will accept to the disagreement at which a frame is flagged."""

from __future__ import annotations

from typing import Final

__all__ = ["DISAGREEMENT_PER_ERROR", "flag_threshold", "threshold_in_force"]

DISAGREEMENT_PER_ERROR: Final = 6.0
"""Disagreement from which a frame is flagged, in units of the force error the user accepts.

Disagreement is a maximum over member pairs and atoms of a vector's length; the target is a mean over components of an
absolute error, so the one is several times the other even for a perfectly calibrated committee: 10 times for four
members whose normal errors are independent. Trained members share descriptors, labels and mistakes: on rMD17 (ethanol,
uracil, aspirin; 50 and 950 labels) the median disagreement was 3.4 to 5.2 times the mean absolute error of their mean.
With 6, a committee that has reached the target lets the typical frame pass and flags the outliers. It is to be
replaced by what each campaign measures on its own labels.
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
        >>> flag_threshold(0.5)
        3.0
    """
    if not (target_force_error > 0 and factor > 0):
        raise ValueError(f"Target and factor must be above 0; found {target_force_error} and {factor}.")
    return factor * target_force_error


def threshold_in_force(given: float | None, target_force_error: float | None) -> float | None:
    """The threshold of a campaign: the one it was given, or else the one that follows from its target.

    Args:
        given: Threshold, eV/Å; None if none was given.
        target_force_error: Mean absolute error of a force component that is good enough, eV/Å; None if unknown.

    Returns:
        Threshold, eV/Å; None if nothing is known from which it could follow.

    Examples:
        >>> threshold_in_force(0.2, 0.05), threshold_in_force(None, 0.5), threshold_in_force(None, None)
        (0.2, 3.0, None)
    """
    return flag_threshold(target_force_error) if given is None and target_force_error is not None else given
