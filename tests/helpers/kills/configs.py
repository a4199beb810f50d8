"""The configs of the toys that are killed, as files: four iterations, a checkpoint after each."""

from pathlib import Path

from helpers.mmdet_toy import evaluation_dataset, toy_config

__all__ = ["write_config"]


def write_config(kind: str, data: Path, folder: Path) -> str:
    """Write a kind's config.

    Args:
        kind: of :data:`helpers.kills.moments.KINDS`.
        data: the toy data.
        folder: for the file.

    Returns:
        Its path.
    """
    host, _, what = kind.partition("/")
    if host == "mmdet":
        return _mmdet(what, data, folder)
    return _detectron2(what, folder)


def _mmdet(what: str, data: Path, folder: Path) -> str:
    work_dir = folder / "made"
    if what == "staged":
        from helpers.mmdet_staged_toy import staged_config

        cfg = staged_config(data, work_dir, default_hooks__checkpoint__interval=1)
        budget = dict(iterations=4, batch_size=2, lr=0.01, drops=[2])
        cfg.schedule = dict(type="four_step", rpn=budget, rcnn=budget)
        cfg.proposals.batch_size = 4
    else:
        cfg = toy_config("faster_rcnn", data, work_dir, dict(type="UncertaintyWeighting", lr=0.1))
        cfg.default_hooks.checkpoint.max_keep_ckpts = 2
        cfg.train_cfg.val_interval = 4
        cfg.val_cfg = dict(type="ValLoop")
        cfg.val_dataloader = dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=evaluation_dataset(cfg),
        )
        cfg.val_evaluator = dict(
            type="CocoMetric", ann_file=str(data / "annotations.json"), metric="bbox"
        )
    cfg.pop("work_dir", None)
    path = folder / "kills.py"
    cfg.dump(str(path))
    return str(path)


def _detectron2(what: str, folder: Path) -> str:
    from helpers.detectron2_staged_toy import write_config as write_lazy
    from helpers.detectron2_toy import toy_cfg

    if what == "yaml":
        cfg = toy_cfg(
            "faster_rcnn", folder / "run", dict(type="UncertaintyWeighting", lr=0.1),
            LOSSWEAVE__NUMBERED_DRAWS=True, SOLVER__CHECKPOINT_PERIOD=1,
        )  # fmt: skip
        path = folder / "kills.yaml"
        path.write_text(cfg.dump())
        return str(path)
    changes = {
        "train.checkpointer": "dict(period=1, max_to_keep=2)",
        "budget": "dict(iterations=4, batch_size=2, lr=0.01, drops=[2], warmup=1)",
    }
    if what == "plain":
        changes |= dict.fromkeys(("budget", "schedule", "proposals", "evaluation"), "")
        changes["train.checkpointer"] += "; train.max_iter, train.eval_period = 4, 4"
    path = folder / "kills.py"
    return write_lazy(path, **changes)
