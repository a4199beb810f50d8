"""A result: what its key depends on, and JSON and back."""

import json
from math import isnan
from typing import Any

import pytest
from helpers.ledger_results import HERE, OTHER_CODE, OTHER_MACHINE, result

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.result import Code, Machine, Result
from lossweave.utils.files import finite


def test_json_and_back() -> None:
    made = result("DWA period=50", 3, rate=1e-3, options=("a=1",))
    assert Result.from_dict(json.loads(json.dumps(finite(made.as_dict())))) == made


def test_a_score_that_is_not_finite_comes_back_as_nan() -> None:
    made = result(scores={"val": float("nan")})
    back = Result.from_dict(json.loads(json.dumps(finite(made.as_dict()))))
    assert isnan(back.scores["val"]) and back.key == made.key


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "turns"},
        {"config_hash": "fedcba9876543210"},
        {"method": "Sum weights=[1,2]"},
        {"seed": 1},
        {"budget": {"iterations": 400, "batch_size": 4}},
        {"rate": 1e-3},
        {"code": Code("0.1.0", "bbb")},
        {"code": Code("0.2.0", "aaa")},
        {"machine": Machine("A CPU", 2)},
        {"machine": Machine("Another CPU", 1)},
        {"machine": Machine("A CPU", 1, "A GPU")},
    ],
)
def test_what_decides_a_result_decides_its_key(changes: dict[str, Any]) -> None:
    assert result(**changes).key != result().key
    elsewhere = "code" in changes or "machine" in changes
    assert (result(**changes).training == result().training) is elsewhere
    assert (result(**changes).place == result().place) is not elsewhere


def test_what_came_of_it_does_not() -> None:
    other = result(test=0.1, date="2027-01-01", command="x", seconds={}, options=("b=2",))
    assert other.key == result().key  # the options are in the hash of the resolved config


def test_without_a_resolved_config_its_name_and_options_have_to_do() -> None:
    def key(*options: str, config: str = "some.py") -> str:
        return result(config_hash=None, config=config, options=options).key

    assert key("a=1") == key("a=1")
    assert len({key(), key("a=1"), key("a=2"), key(config="other.py"), result().key}) == 5


def test_the_cores_of_a_machine_decide_nothing() -> None:
    assert result(machine=Machine("A CPU", 1, cores=64)).key == result().key


def test_places_are_named_for_people() -> None:
    assert result().place == "lossweave 0.1.0 at aaa; A CPU, 2 cores, 1 torch threads"
    unknown = result(code=Code("0.1.0"), machine=Machine())
    assert "commit not recorded" in unknown.place and "machine not recorded" in unknown.place
    places = {result(**place).place for place in (HERE, OTHER_CODE, OTHER_MACHINE)}
    assert len(places) == 3


def _line(**changes: Any) -> dict[str, Any]:
    content = result().as_dict()
    content.update(changes)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no result of a ledger"),
        ({"key": "x"}, "no result of a ledger"),
        (_line(ledger=2), "format 2 is not 1"),
        (_line(colour="red"), "unknown field 'colour'"),
        (_line(seed=7), "its key .* is not that of its content"),
        (_line(scores={"val": "good"}), "no result of a ledger: could not convert"),
        (_line(machine={"host": "name"}), "no result of a ledger: .*host"),
        ({"ledger": 1}, "no result of a ledger: .*missing"),
    ],
)
def test_lines_that_are_no_result(content: Any, message: str) -> None:
    with pytest.raises(LossweaveError, match=message) as refused:
        Result.from_dict(content)
    assert "\n" not in str(refused.value)
