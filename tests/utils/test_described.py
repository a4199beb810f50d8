"""Configs as plain values."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from lossweave.utils.described import described, differences

CODE = """\
import json
from lossweave.utils.described import described
print(json.dumps(described({"a": {"x", "y", "z"}, "f": json.dumps, "o": object(), "c": dict})))
"""


def test_the_same_text_in_every_process() -> None:
    """Whatever the order of sets and the addresses of objects."""
    texts = {
        subprocess.run(
            [sys.executable, "-c", CODE], env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": path},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in (1, 2)
        for path in [":".join(sys.path)]
    }  # fmt: skip
    assert len(texts) == 1 and " at 0x" not in texts.pop()


def test_values_stay_values() -> None:
    made = {"n": np.float32(0.5), "i": np.int64(3), "a": np.arange(2), "p": Path("x"), "t": (1,)}
    plain = {"n": 0.5, "i": 3, "a": [0, 1], "p": "x", "t": [1]}
    assert described(made) == plain and json.loads(json.dumps(plain)) == plain
    assert described({"b": True, "none": None}) == {"b": True, "none": None}


def test_what_differs_is_named() -> None:
    one = {"a": [1, 2], "b": {"c": 1}}
    assert list(differences(one, one)) == []
    assert list(differences(one, {"a": [1, 3], "b": {"c": 1}})) == ["a[1] (2 then, 3 now)"]
    assert list(differences(one, {"a": [1], "b": 2})) == [
        "a ([1, 2] then, [1] now)",
        "b ({'c': 1} then, 2 now)",
    ]
    (long,) = differences({"x": "y" * 200}, {"x": ""})
    assert len(long) < 120
