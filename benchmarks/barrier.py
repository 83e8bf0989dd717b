"""What a barrier costs: the ethanol campaign as it is, and in turns of moving, labelling and training.

Usage: python benchmarks/barrier.py [--labels 70] [--folder DIR]

The same campaign is run twice with the same seed on the same machine, which should have nothing else to do: once as
``workflows/ethanol.yaml`` has it, once with ``barrier: true``. Printed for each: wall time from the first label to the
last, the share of the cores that were busy meanwhile, and for every committee the wall time since the first label, the
labels it learnt from and its error on the 1000 frames of rMD17's ``rmd17_ethanol_test_01.npz`` (in the folder named by
ALFLOW_DATA, default ../shared/data), which neither campaign has seen.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from alflow import Store, Structure
from alflow.campaign.site import working_folder
from alflow.potentials import load_committee
from alflow.reports.summary import summarize
from alflow.tensors import to_batch
from alflow.units import EV_PER_KCAL_MOL

WORKFLOW: Final = Path(__file__).parents[1] / "workflows" / "ethanol.yaml"
KINDS: Final = ("label", "explore", "score", "train", "handover")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=70)
    parser.add_argument("--folder", type=Path, help="where the campaigns go; a temporary folder without")
    given = parser.parse_args()
    file = Path(os.environ.get("ALFLOW_DATA", "../shared/data")) / "rmd17" / "rmd17_ethanol_test_01.npz"
    if not file.is_file():
        sys.exit(f"{file} is missing: set ALFLOW_DATA to the folder that holds rmd17/.")
    data = np.load(file)
    frames = [Structure.of(data["nuclear_charges"], positions) for positions in data["coords"]]
    forces = data["forces"] * EV_PER_KCAL_MOL
    with tempfile.TemporaryDirectory() as temporary:
        for name, barrier in (("as it is", False), ("barrier", True)):
            folder = (given.folder or Path(temporary)) / name.replace(" ", "_")
            database = run(folder, given.labels, barrier)
            print(f"\n{name}")
            report(database, frames, forces)


def run(folder: Path, labels: int, barrier: bool) -> Path:
    """Run one campaign to its end, in a process of its own; returns its database."""
    folder.mkdir(parents=True)
    settings: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text()) | {"label_budget": labels, "barrier": barrier}
    settings["structures"] = str(WORKFLOW.with_name("ethanol.xyz"))
    (folder / "ethanol.yaml").write_text(yaml.safe_dump(settings))
    alflow = Path(sys.executable).with_name("alflow")
    subprocess.run([str(alflow), "run", "ethanol.yaml"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "ethanol.db"


def report(database: Path, frames: list[Structure], forces: np.ndarray) -> None:
    """Print what a campaign took, and how its committees became better."""
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign()
        summary = summarize(store, campaign)
        ended = sorted(row.ended_at for row in store.executions(campaign.id, "label") if row.status == "done")
        committees = [c for c in store.committees(campaign.id) if c.state != "rejected"]
        learnt = [sum(m[2] != "audit" for m in store.dataset_members(c.dataset_digest)) for c in committees]
    span = (ended[-1] - ended[0]).total_seconds()
    shares = ", ".join(f"{kind} {summary.time.share(kind):.0%}" for kind in (*KINDS, "idle"))
    print(f"{len(ended)} labels: {span:.0f} s from the first to the last; until the end of the campaign: {shares}")
    print("generation   since first label, s   labels   force MAE, meV/Å")
    for committee, labels in zip(committees, learnt, strict=True):
        path = working_folder(str(database), campaign.name) / committee.path
        potential = load_committee(path, sha256=committee.sha256)
        predicted = [
            potential.predict(to_batch(frames[i : i + 100])).forces.numpy() for i in range(0, len(frames), 100)
        ]
        error = 1000 * np.abs(np.concatenate(predicted, axis=1).mean(axis=0) - forces).mean()
        since = (committee.created_at - ended[0]).total_seconds()
        print(f"{committee.generation:10d}   {since:20.0f}   {labels:6d}   {error:17.1f}")


if __name__ == "__main__":
    main()
