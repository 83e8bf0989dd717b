"""One water molecule at 500 K, PBE/def2-SVP: the smallest real campaign, two minutes on two cores."""

from pathlib import Path

from alflow import CampaignConfig, run

config = CampaignConfig(
    name="water",
    database="water.db",
    structures=str(Path(__file__).with_name("water.xyz")),
    reference={"engine": "pyscf", "functional": "pbe", "basis": "def2-svp"},
    temperature_k=500,
    timestep_fs=0.5,
    walkers=8,
    label_budget=40,
    target_force_error_ev_ang=0.01,
)

if __name__ == "__main__":
    run(config)
