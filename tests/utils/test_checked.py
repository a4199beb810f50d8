"""However a class or function is called, its type hints say what gets in."""

import copy
import inspect
import pickle
from typing import Annotated, Any, Literal, TypedDict

import pytest
from typing_extensions import Unpack

from lossweave.errors import LossweaveError
from lossweave.utils.checked import Checked, check_arguments, checked
from lossweave.utils.fields import above, at_least, between

Positive = Annotated[float, above(0)]
Count = Annotated[int, at_least(1)]


class Rest(TypedDict, total=False):
    interval: Count


class Hook(metaclass=Checked):
    def __init__(self, lr: Positive, *, mode: Literal["a", "b"] = "a", **rest: Unpack[Rest]):
        self.made = (lr, mode, rest)


def test_a_class_checks_its_arguments_however_it_is_made() -> None:
    assert Hook(1, mode="b", interval=3).made == (1, "b", {"interval": 3})
    for make, message in (
        (lambda: Hook(0), "Hook: lr=0 should be positive"),
        (lambda: Hook(lr=1, mode="c"), "Hook: mode='c' should be one of 'a', 'b'"),
        (lambda: Hook(1, interval=True), "Hook: interval=True should be a whole number, at least"),
        (lambda: Hook(1, intervall=2), r"no argument 'intervall'; .*did you mean 'interval'"),
        (lambda: Hook(), "Hook needs the argument 'lr'"),
    ):
        with pytest.raises(LossweaveError, match=message):
            make()
    assert list(inspect.signature(Hook).parameters) == ["lr", "mode", "rest"]
    assert copy.deepcopy(Hook(1)).made == pickle.loads(pickle.dumps(Hook(1))).made


def test_a_function_checks_its_arguments() -> None:
    @checked
    def share(part: Annotated[float, between(0, 1)], *rest: int, **more: Any) -> float:
        return part

    assert share(0.5, 1, 2, any=3) == 0.5 and share.__name__ == "share"
    with pytest.raises(LossweaveError, match="share: part=2 should be between 0 and 1"):
        share(2)
    with pytest.raises(LossweaveError, match="thing needs the argument 'part'"):
        check_arguments(share, {}, "thing")
