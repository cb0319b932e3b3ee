"""Messages of lists come back as what they were, and Ray's pickler has nothing to do for a step."""

import operator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from automix.agents.parallel.ray_messages import packed, unpacked
from automix.agents.vec_env import ray_hosting
from automix.agents.vec_env.ray_hosted import Stepped

ARRAYS = st.sampled_from(["?", "i1", "u1", "i4", "i8", "f2", "f4", ">f8", "c8"]).flatmap(
    lambda kind: hnp.arrays(np.dtype(kind), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | ARRAYS
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner)
        | st.builds(Stepped, inner, inner, inner, st.lists(inner))
    ),
    max_leaves=12,
)


@dataclass
class Counted:
    seen: int
    calls: int = field(default=0, init=False)


@dataclass
class Doubled:
    value: int

    def __post_init__(self):
        self.value *= 2


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, Stepped):
        assert_same(vars(one), vars(other))
    elif isinstance(one, np.ndarray | np.generic):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert one == other or (one != one and other != other)


def kinds(message):
    """Return the types of a message that are not lists."""
    if type(message) is not list:
        return {type(message)}
    return {kind for item in message for kind in kinds(item)}


@given(VALUES)
def test_what_is_packed_comes_back_as_it_was(value):
    assert_same(unpacked(packed(value)), value)


@given(VALUES)
def test_plain_data_leaves_nothing_to_a_pickler(value):
    assert kinds(packed(value)) <= {type(None), bool, int, float, str, bytes}


def test_arrays_come_back_as_ones_own():
    array = np.arange(6.0).reshape(2, 3).T
    back = unpacked(packed(array))
    back += 1
    assert array[0, 0] == 0
    assert back.tolist() == (array + 1).tolist()


def test_a_number_of_numpy_stays_one():
    assert_same(unpacked(packed([np.float32(0.1), np.bool_(True)])), [np.float32(0.1), np.True_])


@pytest.mark.parametrize("function", [ray_hosting.step, ray_hosting.keep])
def test_a_function_goes_by_its_name(function):
    message = packed((function, (np.zeros(2),)))
    assert kinds(message) == {int, str, bytes}
    assert unpacked(message)[0] is function


@pytest.mark.parametrize(
    "value",
    [
        lambda: 1,
        operator.add,
        object(),
        np.array([object()]),
        np.datetime64("2026-01-01"),
        Counted(3),
        Doubled(3),
        ray_hosting.EnvError("no"),
        Stepped,
    ],
)
def test_what_is_not_plain_is_left_to_ray(value):
    assert packed([value])[1] is value


def test_a_name_that_is_missing_there_is_told():
    message = packed(ray_hosting.step)
    with pytest.raises(AttributeError, match="gone"):
        unpacked([*message[:-1], "gone"])
    with pytest.raises(ModuleNotFoundError, match="not_here"):
        unpacked([message[0], "not_here", "step"])
