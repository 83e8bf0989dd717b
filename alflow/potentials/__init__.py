"""Learned potentials: what a structure's energy is, and how sure the committee is of it."""

from alflow.potentials.committee import Committee, load_committee

__all__ = ["Committee", "load_committee"]
