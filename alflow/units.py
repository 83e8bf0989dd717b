"""Units: eV, Å, fs, u, K, e inside alflow; every other unit ends here.

Constants are CODATA 2018.

Examples:
    The kinetic energy of a hydrogen atom that moves with 0.01 Å/fs, in eV:

    >>> round(0.5 * 1.008 * 0.01**2 * EV_PER_U_ANG2_FS2, 6)
    0.005224
"""

from __future__ import annotations

from typing import Final

EV_PER_HARTREE: Final = 27.211386245988
"""Energy, eV per Hartree."""

ANG_PER_BOHR: Final = 0.529177210903
"""Length, Å per Bohr."""

EV_ANG_PER_HARTREE_BOHR: Final = EV_PER_HARTREE / ANG_PER_BOHR
"""Force, eV/Å per Hartree/Bohr."""

BOLTZMANN_EV_K: Final = 8.617333262145e-5
"""Boltzmann constant, eV/K."""

EV_PER_U_ANG2_FS2: Final = 103.64269667
"""Energy, eV, of 1 u·Å²/fs² (mass × velocity²)."""

EV_PER_KCAL_MOL: Final = 0.04336410424
"""Energy, eV per kcal/mol."""

GPA_PER_EV_ANG3: Final = 160.2176634
"""Stress, GPa per eV/Å³."""

HBAR_EV_FS: Final = 0.6582119569509067
"""Reduced Planck constant, eV·fs."""

EV_PER_WAVENUMBER: Final = 1.2398419843320026e-4
"""Energy, eV, of a wavenumber of 1/cm: Planck constant times speed of light."""

KM_MOL_PER_E2_U: Final = 974.8801118349583
"""Integrated absorption, km/mol, of a dipole derivative of 1 e/√u: N_A e²/(12 ε₀ c² u)."""

FS_PER_PS: Final = 1000.0
"""Time, fs per ps."""
