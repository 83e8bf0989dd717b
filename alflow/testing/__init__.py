"""Public contracts: what anything that plugs into alflow must satisfy, as checks a test can call."""

from alflow.testing.potential import check_potential

__all__ = ["check_potential"]
