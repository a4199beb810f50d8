"""Reads what experiment trackers have written, and the recipes of the guide."""

import re
from pathlib import Path

__all__ = ["mlflow_scalars", "recipes", "tensorboard_scalars", "wandb_scalars"]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "logging.md"


def recipes() -> list[str]:
    """The Python of the guide, block by block."""
    blocks = GUIDE.read_text(encoding="utf-8").split("```python\n")[1:]
    return [block.partition("```")[0] for block in blocks]


def tensorboard_scalars(folder: Path) -> dict[str, float]:
    """The last value of every scalar in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    return {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}


def wandb_scalars(folder: Path) -> dict[str, float]:
    """The last value of every scalar in W&B's offline file: in a record of its history the key,
    a tag, the length of the value, and the value as JSON."""
    (file,) = folder.rglob("run-*.wandb")
    found = re.findall(rb"\x12.([a-z]\w+)\x82\x01.(-?\d[\d.e+-]*)", file.read_bytes(), re.DOTALL)
    return {name.decode(): float(value) for name, value in found}


def mlflow_scalars(folder: Path) -> dict[str, float]:
    """The last value of every scalar in MLflow's folder: a file a metric, time value step."""
    files = [path for path in folder.rglob("metrics/*") if path.is_file()]
    return {file.name: float(file.read_text().splitlines()[-1].split()[1]) for file in files}
