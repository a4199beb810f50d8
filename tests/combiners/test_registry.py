"""Names to classes, configurations to checked instances."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from torch import Tensor

from lossweave.combiners import (
    Combiner,
    LpNorm,
    Sum,
    build_combiner,
    combiner_class,
    combiner_names,
    register_combiner,
)
from lossweave.combiners.registry import _COMBINERS
from lossweave.errors import LossweaveError

if TYPE_CHECKING:
    from decimal import Decimal


@pytest.fixture(autouse=True)
def _clean_registry() -> Iterator[None]:
    before = dict(_COMBINERS)
    yield
    _COMBINERS.clear()
    _COMBINERS.update(before)


def test_from_a_name_a_dict_and_an_instance() -> None:
    assert isinstance(build_combiner("Sum"), Sum)
    made = build_combiner({"type": "LpNorm", "p": 3})
    assert isinstance(made, LpNorm) and made.p == 3
    assert build_combiner(made) is made


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Summ", "did you mean 'Sum'"),
        ("lpnorm", "'LpNorm'"),
        ("UncertaintyWeight", "'UncertaintyWeighting'"),
        ("dwa", "'DWA'"),
        ("Xyzzy123", "there are AlignedMTL, Alternating, "),
    ],
)
def test_an_unknown_name_gives_near_names_or_all(name: str, near: str) -> None:
    with pytest.raises(LossweaveError, match=f"unknown combiner '{name}'; .*{near}"):
        build_combiner(name)


@pytest.mark.parametrize("config", [5, None, {}, {"type": 5}, ["Sum"], {"name": "Sum"}])
def test_what_is_no_configuration(config: Any) -> None:
    with pytest.raises(LossweaveError, match="combiner takes a name or dict"):
        build_combiner(config)


def test_a_user_s_own_registers_with_one_decorator() -> None:
    @register_combiner
    class Twice(Combiner):
        def __init__(
            self,
            factor: float,
            mode: Literal["x", 2] = "x",
            pair: tuple[int, ...] = (),
            names: list[str] | None = None,
        ) -> None:
            super().__init__()
            self.factor = factor

        def value(self, losses: Tensor, present: Tensor) -> Tensor:
            return self.factor * losses.sum()

    assert combiner_names()[-1] == "Twice" and combiner_class("Twice") is Twice
    made = build_combiner({"type": "Twice", "factor": 2, "pair": [1, 2, 3], "names": ["n"]})
    assert isinstance(made, Twice) and made.factor == 2
    for arguments, message in (
        ({}, "Twice needs the argument 'factor'"),
        ({"factor": None}, "factor=None should be a number"),
        ({"factor": 1, "mode": "y"}, "mode='y' should be one of 'x', 2"),
        ({"factor": 1, "mode": 2.0}, "mode=2.0 should be one of"),
        ({"factor": 1, "pair": [1, "b"]}, r"pair=\[1, 'b'\] should be a list of a whole number"),
        ({"factor": 1, "names": "n"}, "names='n' should be a list of a name or None"),
    ):
        with pytest.raises(LossweaveError, match=message):
            build_combiner({"type": "Twice", **arguments})


def test_a_class_that_takes_anything_gets_anything() -> None:
    @register_combiner
    class Open(Combiner):
        def __init__(self, *rest: Any, **options: Any) -> None:
            super().__init__()
            self.options = options

    assert build_combiner({"type": "Open", "whatever": 1}).options == {"whatever": 1}


def test_annotations_that_exist_for_type_checkers_alone_are_not_checked() -> None:
    class Checked(Combiner):
        def __init__(self, x: "Decimal") -> None:
            super().__init__()
            self.x = x

    register_combiner(Checked)
    Checked.__init__.__globals__.pop("Decimal", None)
    assert build_combiner({"type": "Checked", "x": 1}).x == 1


def test_a_taken_name_is_refused_and_a_reloaded_module_is_not() -> None:
    impostor = type("Sum", (Combiner,), {"__module__": "elsewhere"})
    with pytest.raises(LossweaveError, match=r"'Sum' is taken by .*combiners\.values\.sum\.Sum"):
        register_combiner(impostor)
    again = type("Sum", (Combiner,), {"__module__": Sum.__module__})
    assert register_combiner(again) is again and combiner_class("Sum") is again


@pytest.mark.parametrize("thing", [5, dict, "Sum"])
def test_what_is_no_combiner(thing: Any) -> None:
    with pytest.raises(LossweaveError, match="register_combiner takes a subclass of Combiner"):
        register_combiner(thing)
