"""The loss of every term on a split that was not trained on.

A detector trained for one task alone has no AP worth the name; its task's own loss on held-out
pictures still says how well it learned that task. As a process of its own::

    python -m lossweave.studies.turns.term_losses CONFIG CHECKPOINT --out FILE.json
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.runner.utils import set_random_seed

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.utils.files import write_json

__all__ = ["term_losses"]

_OWN = "loss_combination."


def term_losses(
    config: str, checkpoint: str | Path, options: dict[str, Any] | None = None, split: str = "test"
) -> dict[str, float]:
    """Mean loss of every term over a split, without augmentation, the model in evaluation mode.

    Losses are normalised per batch as in training, and batches are weighted by their pictures.

    Args:
        config: the config, a path or ``package::path``; a stock one is wrapped.
        checkpoint: whose weights are judged.
        options: the training's ``--cfg-options``.
        split: 'val' or 'test'; its annotations are read.

    Returns:
        By term, in the terms' order.

    Raises:
        LossweaveError: no such split, or a checkpoint of another detector.
    """
    cfg = with_combiner(load_config(config, options), "Sum")
    loader = cfg.get(f"{split}_dataloader")
    if loader is None:
        raise LossweaveError(f"{config} has no {split}_dataloader")
    init_default_scope(cfg.get("default_scope", "mmdet"))
    set_random_seed(0)  # heads that sample boxes draw the same for every checkpoint
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = MODELS.build(cfg.model).to(device).eval()
    _load(model, checkpoint)
    combination = model.loss_combination
    sums = dict.fromkeys(combination.names, 0.0)
    pictures = 0
    for batch in Runner.build_dataloader(_with_boxes(loader)):
        data = model.data_preprocessor(batch, False)
        with torch.no_grad():
            losses = model(**data, mode="loss")
            _, entries = model.parse_losses(losses)
        assigned = combination.terms.assign([name for name in losses if "loss" in name])
        count = len(data["inputs"])
        pictures += count
        for name, parts in zip(combination.names, assigned.entries, strict=True):
            sums[name] += count * sum(float(entries[part]) for part in parts)
    return {name: total / pictures for name, total in sums.items()}


def _load(model: torch.nn.Module, checkpoint: str | Path) -> None:
    state = CheckpointLoader.load_checkpoint(str(checkpoint), "cpu", None)["state_dict"]
    state = {name: value for name, value in state.items() if not name.startswith(_OWN)}
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [*(n for n in missing if not n.startswith(_OWN)), *unexpected]
    if wrong:
        raise LossweaveError(f"{checkpoint} is not of this detector: {wrong[0]}, ...")


def _with_boxes(loader: Config) -> dict[str, Any]:
    """The loader with its boxes read before pictures are resized, so that they follow."""
    loader = copy.deepcopy(loader.to_dict())
    pipeline = loader["dataset"].get("pipeline")
    if not pipeline:
        raise LossweaveError("a wrapped test data set is not supported here: it has no pipeline")
    reading = dict(type="LoadAnnotations", with_bbox=True)
    others = []
    for step in pipeline:
        if str(step["type"]).endswith("LoadAnnotations"):
            reading = step
        else:
            others.append(step)
    loader["dataset"]["pipeline"] = [others[0], reading, *others[1:]]
    return loader


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one checkpoint and write the result as JSON."""
    parser = argparse.ArgumentParser(description="The loss of every term on a held-out split.")
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--out", required=True, type=Path, help="the JSON to write")
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    args = parser.parse_args(arguments)
    write_json(args.out, term_losses(args.config, args.checkpoint, args.cfg_options, args.split))


if __name__ == "__main__":
    main()
