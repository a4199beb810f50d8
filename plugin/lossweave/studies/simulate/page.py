"""One page with everything in it: pictures to choose from, plotly's script, no network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossweave.errors import LossweaveError
from lossweave.studies.simulate.paths import OPTIMIZERS
from lossweave.studies.simulate.problems import Problem
from lossweave.utils.files import write_atomically

__all__ = ["page_text", "write_page"]

_TEMPLATE = Path(__file__).with_name("page.html")
_GRID = 60  # points along a side of the losses' contours
_FRONT = 80  # points of a front
_MORE = 1.25  # of the largest loss on the front or at a start is shown


def page_text(
    combiners: Sequence[Mapping[str, Any]],
    problems: Sequence[Problem],
    scales: Sequence[float],
    script: str,
) -> str:
    """The page.

    Args:
        combiners: what was found of each, with fields and paths.
        problems: on which it trained.
        scales: that the trainings had.
        script: plotly's.
    """
    names = [one["name"] for one in combiners]
    data = {
        "combiners": list(combiners),
        "problems": [_shown(problem) for problem in problems],
        "scales": list(scales),
        "optimizers": list(OPTIMIZERS),
        "first": "Sum" if "Sum" in names else names[0],
        "made": f"{len(combiners)} combiners, each with its standard arguments. Rates: "
        + ", ".join(f"{name} {rate:g}" for name, rate in OPTIMIZERS.items())
        + ", the same for all.",
    }
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    page = _TEMPLATE.read_text(encoding="utf-8")
    return page.replace("/*DATA*/", content).replace("/*PLOTLY*/", script)


def write_page(
    combiners: Sequence[Mapping[str, Any]],
    problems: Sequence[Problem],
    scales: Sequence[float],
    path: Path,
) -> None:
    """Write the page to a file.

    Args:
        combiners: what was found of each, with fields and paths.
        problems: on which it trained.
        scales: that the trainings had.
        path: of the HTML file.

    Raises:
        LossweaveError: plotly is not installed.
    """
    write_atomically(path, page_text(combiners, problems, scales, plotly_script()).encode())


def plotly_script() -> str:
    """Plotly's JavaScript, as the Python package brings it.

    Raises:
        LossweaveError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise LossweaveError(
            "the page needs plotly, which is not installed; type: pip install plotly"
        ) from None
    # A closing tag inside of a string would end the script.
    return get_plotlyjs().replace("</script", "<\\/script")


def _shown(problem: Problem) -> dict[str, Any]:
    left, right, bottom, top = problem.box
    across = [left + (right - left) * i / (_GRID - 1) for i in range(_GRID)]
    up = [bottom + (top - bottom) * i / (_GRID - 1) for i in range(_GRID)]
    every = max(1, (len(problem.front.points) - 1) // _FRONT)
    points, values = problem.front.points[::every], problem.front.values[::every]
    starts = [problem.at(*start).values for start in problem.starts]
    most = [
        _MORE * max(float(values[:, side].max()), *(pair[side] for pair in starts))
        for side in (0, 1)
    ]
    return {
        "name": problem.name,
        "title": problem.title,
        "starts": problem.starts,
        "box": problem.box,
        "most": most,
        "grid": {
            "x": [round(x, 3) for x in across],
            "y": [round(y, 3) for y in up],
            "z": [[round(sum(problem.at(x, y).values), 3) for x in across] for y in up],
        },
        "front": {
            "x": [round(x, 4) for x in points[:, 0].tolist()],
            "y": [round(y, 4) for y in points[:, 1].tolist()],
            "first": [round(x, 4) for x in values[:, 0].tolist()],
            "second": [round(x, 4) for x in values[:, 1].tolist()],
        },
    }
