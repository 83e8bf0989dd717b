"""How good is the committee of an ethanol campaign on frames it never chose: rMD17's 500 K test set.

Usage: python benchmarks/ethanol_campaign.py ethanol.db [NAME]

Prints, for every generation, the labels it learnt from and the mean absolute error of the committee's mean forces on
the 1000 frames of ``rmd17_ethanol_test_01.npz`` (PBE/def2-SVP, another code), found in the folder named by
ALFLOW_DATA (default ../shared/data).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from alflow import Store, Structure
from alflow.campaign.site import working_folder
from alflow.potentials import load_committee
from alflow.tensors import to_batch
from alflow.units import EV_PER_KCAL_MOL


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    database = Path(sys.argv[1])
    file = Path(os.environ.get("ALFLOW_DATA", "../shared/data")) / "rmd17" / "rmd17_ethanol_test_01.npz"
    if not file.is_file():
        sys.exit(f"{file} is missing: set ALFLOW_DATA to the folder that holds rmd17/.")
    data = np.load(file)
    frames = [Structure.of(data["nuclear_charges"], positions) for positions in data["coords"]]
    forces = data["forces"] * EV_PER_KCAL_MOL
    with Store.open(database, read_only=True) as store:
        campaign = store.campaign(sys.argv[2] if len(sys.argv) > 2 else None)
        committees = [c for c in store.committees(campaign.id) if c.state != "rejected"]
        sizes = [len([m for m in store.dataset_members(c.dataset_digest) if m[2] != "audit"]) for c in committees]
    folder = working_folder(str(database), campaign.name)
    print("generation  labels  force MAE meV/Å  members' MAE  disagreement eV/Å (median)  max-atom error (median)")
    for committee, size in zip(committees, sizes, strict=True):
        potential = load_committee(folder / committee.path, sha256=committee.sha256)
        predictions = [potential.predict(to_batch(frames[i : i + 100])) for i in range(0, len(frames), 100)]
        members = np.concatenate([p.forces.numpy() for p in predictions], axis=1)
        disagreement = np.median(np.concatenate([p.disagreement().numpy() for p in predictions]))
        error = members.mean(axis=0) - forces
        mean, single = 1000 * np.abs(error).mean(), 1000 * np.abs(members - forces).mean()
        worst = np.median(np.linalg.norm(error, axis=-1).max(axis=1))
        print(
            f"{committee.generation:10d}  {size:6d}  {mean:15.1f}  {single:12.1f}  {disagreement:26.3f}  {worst:22.3f}"
        )


if __name__ == "__main__":
    main()
