"""Silicon at 900 K, eight atoms in cells of several shapes, PBE: forces and stress of a crystal, by itself."""

from pathlib import Path

from alflow import CampaignConfig, run

config = CampaignConfig(
    name="silicon",
    database="silicon.db",
    structures=str(Path(__file__).with_name("silicon.xyz")),
    reference={"engine": "pyscf-periodic", "functional": "pbe", "basis": "gth-szv-molopt-sr", "route": "fft"},
    temperature_k=900,
    timestep_fs=2.0,
    walkers=16,
    label_budget=70,
    threshold_ev_ang=0.4,
    target_force_error_ev_ang=0.03,
)

if __name__ == "__main__":
    run(config)
