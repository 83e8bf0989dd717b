"""Where torch starts: batches of structures, and what a learned potential answers."""

from alflow.tensors.batch import Batch, to_batch
from alflow.tensors.potential import Potential, PotentialSurface, Prediction, as_surface

__all__ = ["Batch", "Potential", "PotentialSurface", "Prediction", "as_surface", "to_batch"]
