"""Where tasks run: in this process, one after another, or on Dask workers. Both keep one protocol."""

from alflow.campaign.executors.inline import InlineExecutor
from alflow.campaign.executors.protocol import Completion, Executor

__all__ = ["Completion", "Executor", "InlineExecutor"]
