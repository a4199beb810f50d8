"""What fields are given: values that are right, and values that mean nothing."""

import random
from typing import Any, NamedTuple

INF, NAN = float("inf"), float("nan")


class Field(NamedTuple):
    """A field of a config with values to try.

    Args:
        path: where it is, dotted.
        wrong: values that must be refused.
        right: values that must train.
    """

    path: str
    wrong: tuple[Any, ...]
    right: tuple[Any, ...] = ()


COUNT = ((0, -3, 10**30, 1.5, True, "many", None, [], {"a": 1}, INF, NAN), (1, 2, 3))
RATE = ((-1.0, 1e30, INF, -INF, NAN, "fast", True, [0.1], {}), (0.01, 1e-8))
CHOICE = ((5, "", "Raise", "adds", [], {}), ())

#: Combiners with their arguments: what is wrong, what is right, over the terms cls and loc.
COMBINERS: tuple[tuple[dict[str, Any], bool], ...] = (
    (dict(type="Sum"), True),
    (dict(type="Sum", weights=[1, 2]), True),
    (dict(type="Sum", weights=[0, 0]), False),
    (dict(type="Sum", weights=[-1, -2]), False),
    (dict(type="Sum", weights=[1, NAN]), False),
    (dict(type="Sum", weights=[1, 2, 3]), False),
    (dict(type="Sum", weights="heavy"), False),
    (dict(type="Sum", weights={"cls": 1, "box": 1}), False),
    (dict(type="Sum", weights=True), False),
    (dict(type="Sum", wieghts=[1, 2]), False),
    (dict(type="Convex", alpha=0.3), True),
    (dict(type="Convex", alpha=3), False),
    (dict(type="Convex", alpha=[0.5, 0.6]), False),
    (dict(type="LpNorm", p=3), True),
    (dict(type="LpNorm", p=0.5), False),
    (dict(type="LpNorm", p=INF), False),
    (dict(type="LpNorm", p="two"), False),
    (dict(type="STCH"), True),
    (dict(type="STCH", weights=[0, 0]), False),
    (dict(type="STCH", mu=0), False),
    (dict(type="STCH", mu=-1), False),
    (dict(type="Max"), True),
    (dict(type="Min"), True),
    (dict(type="Max", p=2), False),
    (dict(type="max"), False),
    (dict(type="Mx"), False),
    (dict(type=""), False),
    (dict(type=5), False),
    (dict(type=None), False),
    (dict(type=["Sum"]), False),
    (dict(), False),
    (dict(type="Product"), True),
    (dict(type="GeometricMean"), True),
    (dict(type="MagnitudeMatched", reference="cls"), True),
    (dict(type="MagnitudeMatched", reference="box"), False),
    (dict(type="MagnitudeMatched", updates=0), False),
    (dict(type="MagnitudeMatched", updates=True), False),
    (dict(type="RatioAligned", reference=1), False),
    (dict(type="SelfNormalized", eps=0), False),
    (dict(type="SelfNormalized", eps=NAN), False),
    (dict(type="SquaredSum"), True),
    (dict(type="DWA", temperature=1.0, period=2), True),
    (dict(type="DWA", temperature=0, period=2), False),
    (dict(type="DWA", period=0), False),
    (dict(type="DWA", period="epochs"), False),
    (dict(type="DWA", temprature=2.0), False),
    (dict(type="UncertaintyWeighting", lr=0.1), True),
    (dict(type="UncertaintyWeighting", lr=INF), False),
    (dict(type="UncertaintyWeighting", betas=[0.9]), False),
    (dict(type="UncertaintyWeighting", betas=[0.9, 1.5]), False),
    (dict(type="UncertaintyWeighting", init=100), False),
    (dict(type="IMTLL", limit=0), False),
    (dict(type="FAMO", lr="0.1x"), False),
    (dict(type="RandomWeighting", seed=3), True),
    (dict(type="RandomWeighting", seed=1.5), False),
    (dict(type="GradNorm", lr=0.1), True),
    (dict(type="GradNorm", alpha=-1), False),
    (dict(type="PCGrad"), True),
    (dict(type="PCGrad", interval=True), False),
    (dict(type="PCGrad", interval=0), False),
    (dict(type="PCGrad", boundary="featurs"), False),
    (dict(type="PCGrad", boundary=[]), False),
    (dict(type="PCGrad", boundary=5), False),
    (dict(type="PCGrad", normalize="yes"), False),
    (dict(type="PCGrad", private="none"), False),
    (dict(type="PCGrad", interval=2, private="plain"), False),
    (dict(type="CAGrad", c=INF), False),
    (dict(type="CAGrad", c=-1), False),
    (dict(type="MGDA"), True),
    (dict(type="MGDA", epsilon=0), False),
    (dict(type="GradVac", beta=2), False),
    (dict(type="GradDrop", leak=[2, 2]), False),
    (dict(type="UPGrad", pref_vector=[0, 0]), False),
    (dict(type="UPGrad", pref_vector=[1]), False),
    (dict(type="UPGrad", reg_eps=0), False),
    (dict(type="Alternating"), True),
    (dict(type="Alternating", schedule={"cls": 1, "box": 1}), False),
    (dict(type="Alternating", schedule=5), False),
    (dict(type="Alternating", unit="step"), False),
    (dict(type="AutoLoss", episode=2, lr=0.1), True),
    (dict(type="AutoLoss", reward="held_out"), False),
    (dict(type="AutoLoss", lr=-1), False),
    (dict(type="AutoLoss", objective=[0, 0]), False),
)

#: Terms, for losses loss_cls and BOX.
BOX = "BOX"
TERMS: tuple[tuple[Any, bool], ...] = (
    ("task", True),
    ("loss", True),
    ("auto", True),
    ({"a": "loss_cls", "b": BOX}, True),
    ({"a": ["loss_cls", "?late"], "b": [BOX]}, True),
    ({"a": "loss_cls", "b": {"combiner": "Sum", "terms": {"x": BOX}}}, True),
    ("tsk", False),
    ("", False),
    (5, False),
    ([], False),
    ({"a": []}, False),
    ({"a": 5, "b": BOX}, False),
    ({"a": ""}, False),
    ({"a": "loss_cls", "b": "loss_nothing"}, False),
    ({"a": "?x", "b": "?y"}, False),
    ({"a.b": "loss_cls", "a": {"combiner": "Sum", "terms": {"b": BOX}}}, False),
    ({"a": "loss_cls", "b": {"combiner": "PCGrad", "terms": {"x": BOX}}}, False),
    ({"a": "loss_cls", "b": {"combiner": "Sm", "terms": {"x": BOX}}}, False),
    ({"a": "loss_cls", "b": {"terms": {}}}, False),
    ({"a": "loss_cls", "b": {"combiner": "Sum", "trms": {"x": BOX}}}, False),
)


def some(draw: random.Random, field: Field) -> tuple[Any, bool]:
    """A value of a field, and whether it is right."""
    right = bool(field.right) and draw.random() < 0.25
    return draw.choice(field.right if right else field.wrong), right
