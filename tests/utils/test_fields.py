"""One declaration of a field, one checker, one line for whatever is wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from lossweave.errors import LossweaveError
from lossweave.utils.fields import (
    Allowed,
    above,
    at_least,
    between,
    check_value,
    fits,
    near_names,
    read_fields,
)

Positive = Annotated[float, above(0)]
Count = Annotated[int, at_least(1)]
INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Budget:
    iterations: Count
    lr: Positive | None = None
    drops: tuple[int, ...] | int = ()


@dataclass(frozen=True)
class Schedule:
    type: Literal["four_step", "joint"]
    rpn: Budget
    more: list[Budget] | None = None
    by_name: Mapping[str, Budget] | None = None


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (float, [0, -1, 1.5, np.float32(2), np.int64(2)], [True, "1", None, NAN, INF, 1j, [1.0]]),
        (int, [0, -1, np.int64(2)], [True, np.bool_(True), 1.0, "1", None]),
        (bool, [True, False], [1, 0, None, "true"]),
        (str, ["a", ""], [1, None, ["a"]]),
        (Positive, [1e-300, 1], [0, -1, INF, True]),
        (Count, [1, 5], [0, -3, 1.0, True]),
        (Annotated[float, between(0, 1)], [0, 1, 0.5], [-0.1, 1.1, 7, NAN]),
        (Count | None, [None, 3], [0, "3"]),
        (Literal["a", 2, None], ["a", 2, None], ["b", 2.0, True]),
        (list[float], [[], [1, 2.0], (1,)], [[1, "b"], 1, "12", {1: 2}, [NAN], [True]]),
        (Sequence[str], [["a"], ("a",)], ["a", [1]]),
        (tuple[int, ...], [[], [1, 2], (3,)], [[1.0], 1, "1"]),
        (tuple[float, float], [(0, 1), [0.1, 0.2]], [(1,), (1, 2, 3), (1, "2"), 1]),
        (dict[str, float], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, [], None]),
        (Mapping[str, Any], [{"a": object()}], [{1: 1}]),
        (Budget, [{"iterations": 1}, Budget(1)], [5, "x", None]),
        (Any, [None, object(), "x"], []),
        (Callable[[int], int] | None, [len, None], [5]),
        (Annotated[int, at_least(2), Allowed("even", lambda v: v % 2 == 0)], [2, 4], [0, 3]),
    ],
)  # fmt: skip
def test_types_and_ranges(hint: Any, right: list[Any], wrong: list[Any]) -> None:
    assert [value for value in right if not fits(value, hint)] == []
    assert [value for value in wrong if fits(value, hint)] == []


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("hot", float, "x='hot' should be a number"),
        (INF, float, "x=inf should be a finite number"),
        (NAN, Positive, "x=nan should be a finite number, positive"),
        (-1, Positive, "x=-1 should be positive"),
        (0, Count, "x=0 should be at least 1"),
        (True, Count, "x=True should be a whole number, at least 1"),
        (0, Count | None, "x=0 should be at least 1 or None"),
        ("a", Count | None, "x='a' should be a whole number, at least 1 or None"),
        ([1.0, NAN], list[float] | None, "x=[1.0, nan] should be finite numbers"),
        ({"a": INF}, dict[str, float] | list[float], "x={'a': inf} should be finite numbers"),
        ([1, "b"], tuple[int, ...], "x=[1, 'b'] should be a list of a whole number"),
        ("z", Literal["a", 2], "x='z' should be one of 'a', 2"),
        (5, Budget, "x=5 should be a dict of iterations, lr, drops"),
        ({"a": "b"}, dict[str, float], "x={'a': 'b'} should be a dict from a name to a number"),
        (7, Annotated[float, between(0, 1)], "x=7 should be between 0 and 1"),
    ],
)
def test_the_line_names_the_field_its_value_and_what_is_allowed(
    value: Any, hint: Any, words: str
) -> None:
    with pytest.raises(LossweaveError) as caught:
        check_value("x", value, hint)
    assert str(caught.value) == words


def test_a_long_value_is_one_line_all_the_same() -> None:
    with pytest.raises(LossweaveError) as caught:
        check_value("x", "a\nb" * 1000, int)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_nodes_in_nodes() -> None:
    made = read_fields(
        Schedule,
        dict(
            type="joint",
            rpn=dict(iterations=3, drops=[1, 2]),
            more=[dict(iterations=1), dict(iterations=2, lr=0.1)],
            by_name=dict(a=dict(iterations=4, drops=5)),
        ),
    )
    assert made == Schedule(
        "joint",
        Budget(3, drops=(1, 2)),
        [Budget(1), Budget(2, 0.1)],
        {"a": Budget(4, drops=5)},
    )
    assert read_fields(Schedule, made) is made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (5, "schedule=5 should be a dict of type, rpn, more, by_name"),
        ({}, "schedule needs the field 'type'"),
        (dict(type="join"), "schedule needs the field 'rpn'"),
        (dict(type="x", rpn={}), "schedule.type='x' should be one of 'four_step', 'joint'"),
        (dict(type="joint", rpn={}), "schedule.rpn needs the field 'iterations'"),
        (dict(type="joint", rpn=5), "schedule.rpn=5 should be a dict of iterations, lr, drops"),
        (
            dict(type="joint", rpn=dict(iterations=1, LR=1)),
            "schedule.rpn has no field 'LR'; did you mean 'lr'?",
        ),
        (
            dict(type="joint", rpn=dict(iterations=1, lr=INF)),
            "schedule.rpn.lr=inf should be a finite number, positive or None",
        ),
        (
            dict(type="joint", rpn=dict(iterations=1), more=[dict(iterations=1), 5]),
            "schedule.more=[{'iterations': 1}, 5] should be a list of a dict of iterations, lr, "
            "drops or None",
        ),
        (
            dict(type="joint", rpn=dict(iterations=1), more=[dict(iterations=0)]),
            "schedule.more[0].iterations=0 should be at least 1",
        ),
        (
            dict(type="joint", rpn=dict(iterations=1), by_name=dict(a=dict(iterations=True))),
            "schedule.by_name.a.iterations=True should be a whole number, at least 1",
        ),
    ],
)
def test_a_wrong_node_is_named_by_its_path(values: Any, message: str) -> None:
    with pytest.raises(LossweaveError) as caught:
        read_fields(Schedule, values, "schedule")
    assert str(caught.value) == message


def test_near_names() -> None:
    assert near_names("Lr", ["lr", "mode"]) == "did you mean 'lr'?"
    assert near_names(5, ["lr", "mode"]) == "there are lr, mode"
