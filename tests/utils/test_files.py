"""Files that are there as a whole or not at all."""

import json
from pathlib import Path

from lossweave.utils.files import write_json


def test_json_holds_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [float("nan"), 1.0], "b": float("inf")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.0], "b": None}
