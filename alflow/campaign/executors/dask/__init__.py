"""Tasks on Dask workers: of this machine, in jobs of SLURM, or of a cluster that is there already.

The campaign never has more tasks in flight than there are workers, and each is handed to a live worker that has none,
so Dask queues nothing, retries nothing and pre-empts nothing; a lost worker costs exactly the task it was running.
"""

from alflow.campaign.executors.dask.cluster import ClusterWorkers
from alflow.campaign.executors.dask.executor import DaskExecutor
from alflow.campaign.executors.dask.local import LocalWorkers, label_executor
from alflow.campaign.executors.dask.slurm import SlurmWorkers

__all__ = ["ClusterWorkers", "DaskExecutor", "LocalWorkers", "SlurmWorkers", "label_executor"]
