"""One spelling for each basis set, so that one level of theory has one id. Nothing of PySCF is loaded here.

PySCF does not look at hyphens, underscores and capitals, and knows some basis sets under several names. Which names are
one is its own table's business; ``tests/reference/test_basis_names.py`` holds these rules against it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["basis_name"]

_FAMILIES: Final = tuple(
    (re.compile(pattern), form)
    for pattern, form in (
        (r"sto([36])g", r"sto-\1g"),
        (r"(3|4|6)(21|31|311)(\+{0,2})g", r"\1-\2\3g"),
        (r"(3|4|6)(21|31|311)(\+{0,2})g(?:\*|s|\(d\))", r"\1-\2\3g*"),
        (r"(3|4|6)(21|31|311)(\+{0,2})g(?:\*\*|ss|\(d,p\))", r"\1-\2\3g**"),
        (r"(ma)?def2(m?[stq]zv?pp?d?|svpp?d?)", r"\1-def2-\2"),
        (r"def2([stq]zvpp?d?|svpd?)ri", r"def2-\1-ri"),
        (r"def2(?:svp|[tq]zvpp?|universal)(jk?fit)", r"def2-universal-\1"),
        (r"(heavyaug|aug)?cc(pw?c?v[dtq56]z|pvdpdz)", r"\1-cc-\2"),
        (r"(heavyaug|aug)?cc(pw?c?v[dtq56]zp?)(jkfit|ri|pp|dk3|dk)h?", r"\1-cc-\2-\3"),
        (r"(aug)?(pc|pcseg)([0-4])", r"\1-\2-\3"),
        (r"lanl(2dz|2tz|08)", r"lanl\1"),
        (r"gth(szv|dzv|dzvp|tzvp|tzv2p|qzv2p|qzv3p)", r"gth-\1"),
        (r"gth(szv|dzvp|tzvp|tzv2p|tzv2px)molopt(sr)?", r"gth-\1-molopt-\2"),
        (r"gth(pbe|pbesol|pade|blyp|bp|hcth407|olyp|hf)", r"gth-\1"),
    )
)
"""Names without hyphens, underscores and blanks, and how each family is written."""


def basis_name(text: str) -> str:
    """The one spelling of a basis set's name, an auxiliary basis's or a pseudopotential's.

    Args:
        text: The name as somebody writes it.

    Returns:
        As docs/labels.md writes it; a name of no known family in lower case without blanks, and else as it is given.

    Examples:
        >>> basis_name("Def2SVP"), basis_name("6-31G(d)"), basis_name("augccpVTZ"), basis_name("my-own_basis")
        ('def2-svp', '6-31g*', 'aug-cc-pvtz', 'my-own_basis')
    """
    plain = "".join(text.lower().split())
    squeezed = re.sub(r"[-_]", "", plain)
    for pattern, form in _FAMILIES:
        found = pattern.fullmatch(squeezed)
        if found is not None:
            return found.expand(form).replace("heavyaug", "heavy-aug").strip("-")
    return plain
