"""``alflow cluster``: the jobs a campaign would submit, and what SLURM says of them."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from rich.console import Console

from alflow.campaign.config import CampaignConfig
from alflow.campaign.job_scripts import job_scripts
from alflow.campaign.pool_config import SecurityConfig
from alflow.campaign.site import working_folder
from alflow.campaign.slurm_config import SlurmCluster
from alflow.campaign.slurm_jobs import ask_slurm
from alflow.errors import ConfigError

__all__ = ["show_jobs"]


def show_jobs(config: CampaignConfig, dry_run: bool) -> bool:
    """Print the scripts of the jobs of a campaign; submit none.

    Args:
        config: The campaign.
        dry_run: Only print them; otherwise SLURM is asked whether it would take them.

    Returns:
        Whether SLURM would take all of them, if it was asked.

    Raises:
        ConfigError: The campaign has no SLURM jobs, or labels do not fit into their memory, or there is no SLURM here.
    """
    if not isinstance(config.cluster, SlurmCluster):
        raise ConfigError("This campaign has no jobs: its configuration has no cluster: {slurm: …}.")
    config.cluster.check_memory(config.reference.most_memory_mb)
    slurm, place = config.cluster.slurm, (working_folder(config.database, config.name) / "cluster").absolute()
    host = slurm.host or socket.gethostname()
    security = SecurityConfig(ca=place / "cert.pem", cert=place / "cert.pem", key=place / "key.pem")
    console, taken = Console(), True
    for name, script in job_scripts(config, place, f"tls://{host}:{slurm.port or 'PORT'}", security).items():
        title = f"# {place / name}.sh, submitted {slurm.jobs[name].n_jobs} time(s)"
        console.print(f"{title}\n{script}", highlight=False, markup=False, soft_wrap=True)
        if not dry_run:
            said, accepted = _asked(script)
            taken = taken and accepted
            console.print(f"{name}: {said}\n", highlight=False, markup=False, soft_wrap=True)
    return taken


def _asked(script: str) -> tuple[str, bool]:
    """What SLURM says to a script that is not submitted."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
        file.write(script)
        file.flush()
        done = ask_slurm(["sbatch", "--test-only", str(Path(file.name))])
    return (done.stderr or done.stdout).strip(), done.returncode == 0
