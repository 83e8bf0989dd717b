"""Public contracts: checks that a potential or an integrator of your own keeps what alflow relies on."""

from alflow.testing.integrators import check_integrator
from alflow.testing.potential import check_potential

__all__ = ["check_integrator", "check_potential"]
