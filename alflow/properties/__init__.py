"""What follows from a surface near a minimum: second derivatives, vibrations, infrared intensities; numpy only."""

from __future__ import annotations

from alflow.properties.derivatives import SecondDerivatives, differentiate, displaced, fixed_dipole
from alflow.properties.vibrations import Vibrations, vibrations

__all__ = ["SecondDerivatives", "Vibrations", "differentiate", "displaced", "fixed_dipole", "vibrations"]
