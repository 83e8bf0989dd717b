"""What makes labels: PySCF, xTB, ASE calculators, toys, and the process of its own in which each label is computed.

The face is lazy: ``import alflow.reference`` loads none of PySCF, pydantic and psutil. A name is fetched from its
module the first time it is asked for, because a label process pays for every import with start-up time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alflow.reference.calculator import AseReference
    from alflow.reference.check import check_structure
    from alflow.reference.config import (
        AseConfig,
        CasscfConfig,
        CommitteeConfig,
        EngineConfig,
        LennardJonesConfig,
        MorseConfig,
        MorseMoleculeConfig,
        MuellerBrownConfig,
        PyscfConfig,
        PyscfPeriodicConfig,
        ReferenceConfig,
        TdaConfig,
        XtbConfig,
        make_reference,
    )
    from alflow.reference.excited import CasscfReference, TdaReference
    from alflow.reference.periodic import PyscfPeriodicReference
    from alflow.reference.preflight import check_reference
    from alflow.reference.process import close_guards, run_label
    from alflow.reference.pyscf import PyscfReference
    from alflow.reference.request import LabelRequest, LabelResult
    from alflow.reference.spool import SpooledResult, remove_spooled, sweep_spool
    from alflow.reference.synthetic import Synthetic
    from alflow.reference.toy import LennardJones, Morse, MorseMolecule, MuellerBrown
    from alflow.reference.xtb import TbliteReference

__all__ = [
    "AseConfig",
    "AseReference",
    "CasscfConfig",
    "CasscfReference",
    "CommitteeConfig",
    "CostModel",
    "EngineConfig",
    "LabelRequest",
    "LabelResult",
    "LennardJones",
    "LennardJonesConfig",
    "Morse",
    "MorseConfig",
    "MorseMolecule",
    "MorseMoleculeConfig",
    "MuellerBrown",
    "MuellerBrownConfig",
    "PyscfConfig",
    "PyscfPeriodicConfig",
    "PyscfPeriodicReference",
    "PyscfReference",
    "ReferenceConfig",
    "SpooledResult",
    "Synthetic",
    "TbliteReference",
    "TdaConfig",
    "TdaReference",
    "XtbConfig",
    "check_reference",
    "check_structure",
    "close_guards",
    "is_drawn",
    "make_reference",
    "remove_spooled",
    "run_label",
    "size_of",
    "sweep_spool",
]

_HOMES = {
    "calculator": ("AseReference",),
    "check": ("check_structure",),
    "config": (
        "AseConfig",
        "CasscfConfig",
        "CommitteeConfig",
        "EngineConfig",
        "LennardJonesConfig",
        "MorseConfig",
        "MorseMoleculeConfig",
        "MuellerBrownConfig",
        "PyscfConfig",
        "PyscfPeriodicConfig",
        "ReferenceConfig",
        "TdaConfig",
        "XtbConfig",
        "make_reference",
    ),
    "cost": ("CostModel", "size_of"),
    "excited": ("CasscfReference", "TdaReference"),
    "periodic": ("PyscfPeriodicReference",),
    "preflight": ("check_reference",),
    "process": ("close_guards", "run_label"),
    "pyscf": ("PyscfReference",),
    "request": ("LabelRequest", "LabelResult"),
    "spotcheck": ("is_drawn",),
    "spool": ("SpooledResult", "remove_spooled", "sweep_spool"),
    "synthetic": ("Synthetic",),
    "toy": ("LennardJones", "Morse", "MorseMolecule", "MuellerBrown"),
    "xtb": ("TbliteReference",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
