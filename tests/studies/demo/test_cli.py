"""The demo's command line."""

from pathlib import Path

import pytest

from lossweave import LossweaveError
from lossweave.studies.demo.cli import demo as command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--combiners", "Sun"], "unknown combiner 'Sun'"),
        (["--combiners", "Sum", "Sum"], "named twice"),
        (["--iterations", "0"], "--iterations: 0 should be between 1 and"),
        (["--config", "nowhere.py"], "no config 'nowhere.py'"),
        (["--config", "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"], "counts iterations"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(LossweaveError, match=message):
        command([*arguments, "--work-dir", str(tmp_path / "work")])
    assert not (tmp_path / "work").exists()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(["--help"])
    out = capsys.readouterr().out
    for said in ("report.md", "--fresh", "UncertaintyWeighting", "examples:"):
        assert said in out
