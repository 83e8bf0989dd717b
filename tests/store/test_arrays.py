"""Arrays come back bit for bit, or not at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from alflow.errors import StoreError
from alflow.store.arrays import decode, decode_shared, encode

AWKWARD = np.array([5e-324, -5e-324, 2.2250738585072014e-308, -0.0, 0.0, 1.7976931348623157e308, math.pi, 1 / 3])


@given(
    arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=0),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_finite_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    back = decode(encode(array, "positions_ang"))
    assert back.shape == array.shape
    assert back.dtype == np.float64
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()


def test_denormals_signed_zeros_and_the_largest_numbers_survive() -> None:
    assert decode(encode(AWKWARD, "positions_ang")).tobytes() == AWKWARD.tobytes()


def test_integers_survive_up_to_the_last_bit() -> None:
    numbers = np.array([2**63 - 1, -(2**63), 0, 1])
    back = decode(encode(numbers, "numbers"))
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, numbers)


def test_byte_order_and_memory_layout_do_not_matter() -> None:
    array = np.arange(12.0).reshape(3, 4)
    blob = encode(array, "x")
    assert encode(array.astype(">f8"), "x") == blob
    assert encode(np.asfortranarray(array), "x") == blob
    assert encode(array.T.copy().T, "x") == blob


def test_a_user_of_sql_reads_a_column_with_numpy_alone() -> None:
    forces = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(np.frombuffer(encode(forces, "x"), "<f8", offset=16).reshape(-1, 3), forces)


def test_what_is_read_cannot_be_written_to() -> None:
    assert not decode(encode([1.0], "x")).flags.writeable


def test_equal_shared_arrays_are_one_object() -> None:
    assert decode_shared(encode([8, 1, 1], "numbers")) is decode_shared(encode([8, 1, 1], "numbers"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_name_and_place(bad: float) -> None:
    with pytest.raises(StoreError, match=r"forces_ev_ang must be finite numbers; element \(0, 2\) is .*(nan|inf)"):
        encode([[0.0, 0.0, bad]], "forces_ev_ang")


@pytest.mark.parametrize("bad", ["text", np.array(1.0), np.zeros((1, 1, 1, 1)), np.array([1j])])
def test_what_is_not_an_array_of_numbers_is_refused(bad: object) -> None:
    with pytest.raises(StoreError, match="holds numbers on one to three axes"):
        encode(bad, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"XX" + b[2:], lambda b: b"AF"])
def test_damaged_bytes_are_not_taken_for_an_array(damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(StoreError, match="damaged"):
        decode(damage(encode([1.0, 2.0], "x")))
