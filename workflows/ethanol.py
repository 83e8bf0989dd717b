"""Ethanol at 500 K, PBE/def2-SVP: from one geometry to a neural-network potential, by itself."""

from pathlib import Path

from alflow import CampaignConfig, run

config = CampaignConfig(
    name="ethanol",
    database="ethanol.db",
    structures=str(Path(__file__).with_name("ethanol.xyz")),
    reference={"engine": "pyscf", "functional": "pbe", "basis": "def2-svp"},
    temperature_k=500,
    timestep_fs=0.5,
    walkers=16,
    label_budget=100,
    threshold_ev_ang=0.4,
    target_force_error_ev_ang=0.02,
)

if __name__ == "__main__":
    run(config)
