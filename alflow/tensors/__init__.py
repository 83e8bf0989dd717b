"""Where torch starts: batches of structures, and what a learned potential answers."""

from alflow.tensors.batch import Batch, to_batch
from alflow.tensors.potential import Potential, Prediction

__all__ = ["Batch", "Potential", "Prediction", "to_batch"]
