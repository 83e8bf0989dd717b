"""What the numbers allow to say, by rules that are stated, and nothing more.

The rules, in the order in which they are asked; each gives one sentence:

0. *Weights.* If the weight file of the active committee is gone or altered, that is said, and counts against it.
1. *Error.* Shown to be below the target: the upper end of the 95 % interval of the audit error is below it, on at least
   the campaign's ``audit_minimum`` of frames. Shown to be above it: the lower end is. Else it is open. With fewer than
   :data:`FEWEST` audit frames it cannot be judged at all.
2. *Warning.* Disagreement warns of errors if the lower end of the 95 % interval of its rank correlation with the true
   error is above 0 and the correlation is at least :data:`WEAK`; it cannot be judged with fewer than
   :data:`FEWEST_RANKED` frames.
3. *Blind spots.* The share of audit frames, none of which was flagged, whose error is above the target: few if its 95 %
   interval lies below one half, many if it lies above.
4. *Energy.* Conserved if the 95 % interval of the drift stays within ± :data:`DRIFT_EV_ATOM_PS`; open if time was over
   before :data:`SHORTEST_PS`.
5. *Reach.* What the labels cover; beyond it nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from alflow.reports.calibration import share_of
from alflow.reports.findings import Findings
from alflow.reports.validity import Validity
from alflow.reports.words import interval, listed, milli, percent, plural, pretty
from alflow.selection import ErrorEstimate

__all__ = ["DRIFT_EV_ATOM_PS", "FEWEST", "FEWEST_RANKED", "Statement", "Verdict", "audit_error", "judge"]

FEWEST: Final = 4
"""Audit frames below which nothing is said about the error."""

FEWEST_RANKED: Final = 10
"""Frames below which nothing is said about whether disagreement follows the error."""

WEAK: Final = 0.4
"""Rank correlation below which disagreement is no more than a hint."""

DRIFT_EV_ATOM_PS: Final = 1e-4
"""Drift that counts as none: 0.1 meV per atom and ps, less than 1 K/ps."""

SHORTEST_PS: Final = 1.0
"""A run at constant energy that ended before is not judged: the ripple of vibrations has slopes of its own."""

Tone = Literal["good", "bad", "open"]


@dataclass(frozen=True)
class Statement:
    """One sentence, and which way it points."""

    topic: str
    tone: Tone
    text: str


@dataclass(frozen=True)
class Verdict:
    """The short answer and the sentences it rests on.

    Attributes:
        tone: Which way it points.
        headline: Whether the potential can be trusted, in one sentence.
        statements: Why.
        reach: For what.
    """

    tone: Tone
    headline: str
    statements: tuple[Statement, ...]
    reach: tuple[str, ...]


def judge(found: Findings) -> Verdict:
    """Say what the numbers of a campaign allow to say."""
    n_labels = len(found.rows.labels)
    if not found.is_campaign:
        text = (
            f"There is no potential to judge: these are {plural(n_labels, 'label')} made of a file, without training."
        )
        return Verdict("open", text, (), reach(found))
    if found.rows.active is None:
        text = f"There is no potential to judge yet: {plural(n_labels, 'label')}, and no committee was trained."
        return Verdict("open", text, (), reach(found))
    error = _error(found)
    statements = [error, _weights(found), _warning(found), _blind_spots(found), _energy(found), _test(found)]
    kept = tuple(statement for statement in statements if statement is not None)
    where = _where(found)
    if error.tone == "open":
        headline = "Whether this potential can be trusted cannot be judged yet."
    elif error.tone == "bad":
        headline = "This potential is not as accurate as was asked for."
    elif any(statement.tone == "bad" for statement in kept):
        headline = f"This potential is accurate enough {where}, but there are reservations."
    else:
        headline = f"This potential can be trusted {where}."
    tone: Tone = "bad" if any(statement.tone == "bad" for statement in kept) else error.tone
    if found.validity is not None and found.validity.toys:
        headline = f"Dry run on an analytic model ({', '.join(found.validity.toys)}). {headline}"
    return Verdict(tone, headline, kept, reach(found))


def audit_error(found: Findings) -> tuple[ErrorEstimate | None, str]:
    """The audit error of the active committee, and where it comes from."""
    if found.parity is not None and (estimate := found.parity.force_error("audit")) is not None:
        return estimate, "measured for this report"
    metrics = found.rows.active.metrics if found.rows.active is not None else {}
    mean = metrics.get("audit_force_mae_ev_ang")
    if mean is None:
        return None, ""
    lower = metrics.get("audit_force_mae_lower_ev_ang", 0.0)
    upper = metrics.get("audit_force_mae_upper_ev_ang", np.inf)
    return ErrorEstimate(mean, lower, upper, int(metrics.get("n_audit", 0)), 0.95), "measured when it was trained"


def _where(found: Findings) -> str:
    kelvin = f" at {found.temperature:g} K" if found.temperature is not None else ""
    formulas = ", ".join(pretty(formula) for formula, _ in found.validity.compositions[:3]) if found.validity else ""
    limit = f", while disagreement stays below {found.threshold:.3g} eV/Å" if found.threshold is not None else ""
    return f"for {formulas} in shapes like those its walkers met{kelvin}{limit}"


def _error(found: Findings) -> Statement:
    estimate, _ = audit_error(found)
    n = estimate.n if estimate is not None else 0
    if estimate is None or n < FEWEST:
        return Statement(
            "Error", "open", f"The error cannot be judged: {plural(n, 'audit frame')}, at least {FEWEST} are needed."
        )
    told = (
        f"On {plural(n, 'audit frame')}, drawn at random below the threshold and never learnt from, the mean absolute "
        f"error of a force component is {interval(estimate.mean, estimate.lower, estimate.upper, milli, 'meV/Å')}"
    )
    if found.target is None:
        return Statement("Error", "open", f"{told}.")
    goal = f"{milli(found.target)} meV/Å"
    if estimate.upper < found.target and n >= found.audit_minimum:
        return Statement("Error", "good", f"{told}: below the target of {goal}.")
    if estimate.lower > found.target:
        return Statement("Error", "bad", f"{told}: above the target of {goal}.")
    if estimate.upper < found.target:
        wanted = f"the campaign asks for {found.audit_minimum} audit frames before it counts"
        return Statement("Error", "open", f"{told}: below the target of {goal}, but {wanted}.")
    return Statement(
        "Error", "open", f"{told}: whether it is below the target of {goal} is open, more audit frames decide."
    )


def _weights(found: Findings) -> Statement | None:
    if "committee" not in found.omitted:
        return None
    text = "The committee itself could not be looked at; what is said is from when it was trained."
    return Statement("Weights", "bad", f"{text} {found.omitted['committee']}")


def _warning(found: Findings) -> Statement:
    numbers = found.calibration.verdicts(None, found.target)
    if numbers.n < FEWEST_RANKED or numbers.correlation is None:
        seen = plural(numbers.n, "frame")
        text = f"Whether disagreement warns of errors cannot be judged: {seen} predicted first and labelled later."
        return Statement("Warning", "open", text)
    r, lower, upper = numbers.correlation
    ends = f"95 % interval {lower:.2f} to {upper:.2f}".replace("-", "−")
    told = f"rank correlation {r:.2f}, {ends}, {numbers.n} frames, audit and flagged together"
    if numbers.ratio is not None:
        told += f"; the worst atom's error is typically {numbers.ratio:.2g} times the disagreement"
    if lower > 0 and r < WEAK:
        return Statement("Warning", "open", f"Disagreement follows the error, but only weakly ({told}).")
    if lower > 0:
        return Statement("Warning", "good", f"Larger disagreement came with larger errors ({told}).")
    return Statement("Warning", "bad", f"Disagreement was not shown to warn of errors ({told}).")


def _blind_spots(found: Findings) -> Statement | None:
    drawn = found.calibration.verdicts(True, found.target).above_target
    if drawn is None or found.target is None or drawn.n == 0:
        return None
    share = drawn
    if found.parity is not None:
        now = found.parity.mean_error[found.parity.of("audit")]
        share = share_of(int((now > found.target).sum()), len(now))
    told = (
        f"Among {plural(share.n, 'audit frame')}, none of which was flagged, {share.count} with an error above the "
        f"target ({percent(share.share)}, 95 % interval {percent(share.lower)} to {percent(share.upper)})"
    )
    if share is not drawn:
        told += f"; by the committees that drew them it was {drawn.count} of {drawn.n}"
    if share.n < FEWEST:
        return Statement("Blind spots", "open", f"{told}: too few to judge.")
    tone: Tone = "good" if share.upper < 0.5 else "bad" if share.lower > 0.5 else "open"
    return Statement("Blind spots", tone, f"{told}.")


def _energy(found: Findings) -> Statement | None:
    run = found.constant_energy
    if run is None:
        return Statement(
            "Energy", "open", f"Energy conservation was not tested: {found.omitted.get('dynamics', 'no committee.')}"
        )
    drift = run.drift
    if drift is None:
        if run.failed:
            return Statement("Energy", "bad", f"The run at constant energy failed: {run.problem}.")
        return Statement("Energy", "open", f"Whether energy is conserved is open, not enough time: {run.problem}.")
    told = (
        f"At constant energy the total energy drifts by {interval(*drift, lambda v: f'{1000 * v:.2g}', 'meV/atom/ps')} "
        f"over {run.time[-1]:.3g} ps"
    )
    if run.problem:
        told += f" (ended early: {run.problem})"
    beyond = f" {percent(run.beyond)} of its frames were above the threshold." if run.beyond else ""
    if run.failed:
        return Statement("Energy", "bad", f"{told}.{beyond}")
    if run.time[-1] < SHORTEST_PS:
        return Statement(
            "Energy", "open", f"{told}: not enough time, less than {SHORTEST_PS:g} ps are not judged.{beyond}"
        )
    if not np.isfinite(drift[1:]).all():
        return Statement("Energy", "open", f"{told}.{beyond}")
    limit = f"{1000 * DRIFT_EV_ATOM_PS:g} meV/atom/ps"
    if max(abs(drift[1]), abs(drift[2])) <= DRIFT_EV_ATOM_PS:
        return Statement("Energy", "good", f"{told}: conserved within {limit}.{beyond}")
    if drift[1] > DRIFT_EV_ATOM_PS or drift[2] < -DRIFT_EV_ATOM_PS:
        return Statement("Energy", "bad", f"{told}: not conserved within {limit}.{beyond}")
    told += f": too short, or too few trajectories, to call it conserved within {limit}"
    return Statement("Energy", "open", f"{told}.{beyond}")


def _test(found: Findings) -> Statement | None:
    if found.test is None or found.test.parity is None:
        return None
    estimate = found.test.parity.force_error("test")
    assert estimate is not None
    told = interval(estimate.mean, estimate.lower, estimate.upper, milli, "meV/Å")
    frames = f"On the {plural(estimate.n, 'frame')} of {found.test.file}"
    text = f"{frames} the mean absolute error of a force component is {told}"
    if found.target is None or estimate.lower <= found.target <= estimate.upper:
        return Statement("Test", "open", f"{text}.")
    good = estimate.upper < found.target
    where = "below" if good else "above"
    return Statement("Test", "good" if good else "bad", f"{text}: {where} the target of {milli(found.target)} meV/Å.")


def _source(known: Validity) -> str:
    if known.toys:
        return "Labels that are values of a formula, not of a quantum-chemical method: nothing real is described."
    names = []
    for level in known.levels:
        told = [str(level.settings[key]) for key in ("method", "functional", "basis") if level.settings.get(key)]
        names.append(f"{level.engine} ({', '.join(told)})" if told else level.engine)
    return f"Labels of {listed(names)}: what learns from them is at best as good as they are."


def reach(found: Findings) -> tuple[str, ...]:
    """For what a potential trained on these labels may be used: what they cover."""
    known = found.validity
    if known is None:
        return ()
    formulas = ", ".join(f"{pretty(formula)} ({plural(n, 'label')})" for formula, n in known.compositions[:8])
    more = f" and {len(known.compositions) - 8} more" if len(known.compositions) > 8 else ""
    states = ", ".join(
        f"charge {charge:+d}, multiplicity {m}" if charge else f"neutral, multiplicity {m}"
        for charge, m in known.states
    )
    kind = "Periodic structures" if known.periodic else "Molecules"
    lines = [
        f"{kind} of {listed(known.elements)}: {formulas}{more}; {states}.",
        f"Energies up to {1000 * known.energy_span:.3g} meV/atom above the lowest of the same composition, "
        f"forces up to {known.max_force:.3g} eV/Å.",
    ]
    lines.insert(0, _source(known))
    if found.temperature is not None:
        lines.append(f"Walkers were kept at {found.temperature:g} K; hotter or rarer events were not looked for.")
    return tuple(lines)
