"""What is put on the shelf comes back bit for bit, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from alflow.reference.shelf import Shelf

NUMBERS = np.array([1.0 / 3.0, -0.0, 1e-308])


@pytest.mark.parametrize("place", [32, 64, 87])
def test_a_damaged_array_counts_as_absent_and_is_replaced(place: int) -> None:
    shelf = Shelf(places=1, length=3)
    shelf.put("carbon", NUMBERS)
    shelf._memory[place] ^= 1  # of the digest, of the first and of the last number
    assert shelf.take("carbon") is None
    shelf.put("carbon", NUMBERS)
    found = shelf.take("carbon")
    assert found is not None
    assert found.tobytes() == NUMBERS.tobytes()


def test_a_full_shelf_keeps_what_it_has() -> None:
    shelf = Shelf(places=2, length=3)
    for name in ("carbon", "oxygen", "hydrogen"):
        shelf.put(name, NUMBERS)
    assert [shelf.take(name) is not None for name in ("carbon", "oxygen", "hydrogen")] == [True, True, False]


def test_arrays_have_one_length() -> None:
    with pytest.raises(ValueError, match=r"Expected an array of shape \(3,\); found \(2,\)"):
        Shelf(places=1, length=3).put("carbon", NUMBERS[:2])
