"""Selection: which frames deserve a label, in which order, and when there are enough."""

from alflow.selection.audit import ErrorEstimate, estimate_error, stop_reached
from alflow.selection.disagreement import force_disagreement, frame_disagreement
from alflow.selection.energy_band import EnergyBand
from alflow.selection.novelty import Fingerprints, fingerprint, is_near_duplicate
from alflow.selection.queue import Purpose, Request, admit, has_advanced, next_request, rescore, waiting_for
from alflow.selection.threshold import DISAGREEMENT_PER_ERROR, flag_threshold, threshold_in_force

__all__ = [
    "DISAGREEMENT_PER_ERROR",
    "EnergyBand",
    "ErrorEstimate",
    "Fingerprints",
    "Purpose",
    "Request",
    "admit",
    "estimate_error",
    "fingerprint",
    "flag_threshold",
    "force_disagreement",
    "frame_disagreement",
    "has_advanced",
    "is_near_duplicate",
    "next_request",
    "rescore",
    "stop_reached",
    "threshold_in_force",
    "waiting_for",
]
