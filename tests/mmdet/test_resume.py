"""A resumed run ends bit-identical to one that was never stopped."""

import shutil
from pathlib import Path

import pytest
import torch
from helpers.mmdet_support import ALL_COMBINERS, HELD, assert_same, combiner_config, with_held_out
from helpers.mmdet_toy import evaluation_dataset
from mmengine.hooks import Hook
from mmengine.runner import Runner


class _Stop(Hook):
    priority = "LOWEST"

    def __init__(self, after: int) -> None:
        self.after = after

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.after:
            raise KeyboardInterrupt


def _run(cfg, stop_after: int | None = None, resume: bool = False) -> Runner:
    cfg.resume = resume
    runner = Runner.from_cfg(cfg)
    if stop_after is not None:
        runner.register_hook(_Stop(stop_after))
    try:
        runner.train()
    except KeyboardInterrupt:
        assert stop_after is not None
    return runner


def _check(make_config, *args, stop_after: int, **options) -> None:
    if not options.get("by_epoch"):  # writing a checkpoint takes longer than an iteration
        options["default_hooks__checkpoint__interval"] = stop_after
    whole = _run(make_config(*args, name="whole", **options))
    broken = make_config(*args, name="broken", **options)
    _run(broken, stop_after=stop_after)
    resumed = _run(make_config(*args, name="broken", **options), resume=True)
    assert resumed.iter == whole.iter
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    momentum = [
        [s.get("momentum_buffer") for s in r.optim_wrapper.optimizer.state.values()]
        for r in (whole, resumed)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*momentum, strict=True) if a is not None)


@pytest.mark.parametrize("name", ALL_COMBINERS)
def test_every_combiner_from_an_iteration(name, make_config) -> None:
    _check(make_config, "retinanet", combiner_config(name), stop_after=3, iterations=5)


@pytest.mark.parametrize(
    ("detector", "options", "more"),
    [
        ("faster_rcnn", dict(type="PCGrad", boundary="representation"), {}),
        ("faster_rcnn", dict(type="MGDA", boundary="features", interval=3), {}),
        ("retinanet", dict(type="GradNorm", lr=0.1), dict(optim_wrapper__accumulative_counts=2)),
        ("retinanet", dict(type="GradVac"), dict(optim_wrapper__accumulative_counts=2)),
        ("retinanet", dict(type="DBMTL"), dict(optim_wrapper__accumulative_counts=2)),
        ("faster_rcnn", dict(type="ExcessMTL", boundary="features"), {}),
    ],
    ids=[
        "representation", "kept weights", "window of GradNorm", "window of GradVac",
        "window of smoothed rows", "sums of a batch",
    ],
)
def test_gradients_combined(detector, options, more, make_config) -> None:
    _check(make_config, detector, options, stop_after=5, iterations=8, **more)


@pytest.mark.parametrize("name", ["UncertaintyWeighting", "DWA", "FAMO", "Alternating"])
def test_with_workers(name, make_config) -> None:
    _check(make_config, "retinanet", combiner_config(name), stop_after=3, iterations=5, workers=2)


def test_random_sampling_in_the_main_process(make_config) -> None:
    _check(
        make_config, "faster_rcnn", combiner_config("UncertaintyWeighting"),
        stop_after=3, iterations=5,
    )  # fmt: skip


@pytest.mark.parametrize("stop_after", [4, 6], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize("name", ["DWA", "FAMO"])
def test_epoch_loop(name, stop_after, make_config) -> None:
    options = dict(by_epoch=True, iterations=3, default_hooks__checkpoint__by_epoch=False)
    combiner = dict(type="DWA") if name == "DWA" else combiner_config(name)
    _check(make_config, "retinanet", combiner, stop_after=stop_after, **options)


def test_stock_epoch_loop_from_an_epoch_end(make_config) -> None:
    _check(
        make_config, "retinanet", combiner_config("IMTLL"), stop_after=8, by_epoch=True,
        iterations=3, train_cfg__type="EpochBasedTrainLoop", workers=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("detector", "terms"),
    [("faster_rcnn", "loss"), ("retinanet", "level"), ("retinanet", "auto")],
)
def test_terms_that_follow_from_the_losses(detector, terms, make_config) -> None:
    combiner = combiner_config("UncertaintyWeighting")
    _check(make_config, detector, combiner, stop_after=3, iterations=5, model__terms=terms)


@pytest.mark.parametrize(
    "combiner",
    [combiner_config("UncertaintyWeighting"), dict(type="GradNorm", boundary="representation")],
    ids=["values", "gradients"],
)
def test_terms_that_follow_from_the_losses_with_averaged_buffers(combiner, make_config) -> None:
    hooks = [dict(type="EMAHook", momentum=0.1, update_buffers=True)]
    _check(
        make_config, "faster_rcnn", combiner, stop_after=3, iterations=5, custom_hooks=hooks,
        model__terms="loss", model__on_nonfinite="skip",
    )  # fmt: skip


def test_within_an_accumulation_window(make_config) -> None:
    for name in ("UncertaintyWeighting", "DWA", "Alternating"):
        _check(
            lambda *a, name=name, n=name, **o: make_config(*a, name=f"{n}_{name}", **o),
            "retinanet", combiner_config(name), stop_after=5, iterations=8,
            optim_wrapper__accumulative_counts=2,
        )  # fmt: skip


def test_with_ema(make_config) -> None:
    # With averaged buffers, too: the checkpoint's weights and the combiner's state are swapped.
    _check(
        make_config, "retinanet", combiner_config("UncertaintyWeighting"), stop_after=3,
        iterations=5, custom_hooks=[dict(type="EMAHook", update_buffers=True)],
    )  # fmt: skip


def test_famo_recomputing_on_the_same_batch(make_config) -> None:
    combiner = combiner_config("FAMO", recompute=True)
    _check(make_config, "retinanet", combiner, stop_after=3, iterations=5)


@pytest.mark.parametrize(("inactive", "accumulate"), [("hold", 2), ("zero", 1)])
def test_auto_loss_on_held_out_losses(inactive, accumulate, make_config) -> None:
    _check(
        lambda *args, **options: with_held_out(make_config(*args, **options)),
        "faster_rcnn", combiner_config("AutoLoss", inactive=inactive, **HELD), stop_after=5,
        iterations=8, optim_wrapper__accumulative_counts=accumulate,
    )  # fmt: skip


def test_order_does_not_depend_on_the_workers(make_config) -> None:
    states = [
        _run(make_config("retinanet", "Sum", name=f"w{workers}", workers=workers)).model
        for workers in (0, 2)
    ]
    assert_same(states[0].state_dict(), states[1].state_dict())


def test_without_numbered_draws_random_states_are_saved(make_config) -> None:
    """A stock epoch loop and a stock sampler: exact from an epoch's end, without workers."""
    _check(
        make_config, "faster_rcnn", combiner_config("UncertaintyWeighting"), stop_after=8,
        by_epoch=True, iterations=3, seeded=False,
    )  # fmt: skip


def test_the_comparison_can_fail(make_config, tmp_path: Path) -> None:
    """Without the combiner's state the resumed run ends elsewhere."""
    options = dict(iterations=6)
    combiner = combiner_config("UncertaintyWeighting")
    whole = _run(make_config("retinanet", combiner, name="whole", **options))
    broken = make_config("retinanet", combiner, name="broken", **options)
    _run(broken, stop_after=3)
    path = Path((tmp_path / "broken" / "last_checkpoint").read_text())
    checkpoint = torch.load(path, weights_only=False)
    for key in [k for k in checkpoint["state_dict"] if k.startswith("loss_combination")]:
        del checkpoint["state_dict"][key]
    shutil.move(path, f"{path}.old")
    torch.save(checkpoint, path)
    resumed = _run(make_config("retinanet", combiner, name="broken", **options), resume=True)
    same = [
        torch.equal(a, b)
        for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    ]
    assert not all(same)


class _Evaluations(Hook):
    def __init__(self) -> None:
        self.at: list[int] = []

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.at.append(runner.iter)


@pytest.mark.parametrize("by_epoch", [False, True])
def test_a_run_resumed_at_its_end_is_evaluated(by_epoch: bool, make_config) -> None:
    def run(resume: bool) -> list[int]:
        cfg = make_config("retinanet", "Sum", iterations=2, by_epoch=by_epoch)
        dataset = evaluation_dataset(cfg)
        cfg.val_dataloader = dict(
            batch_size=2, sampler=dict(type="DefaultSampler", shuffle=False), dataset=dataset
        )
        annotations = f"{dataset['data_root']}/{dataset['ann_file']}"
        cfg.val_evaluator = dict(type="CocoMetric", ann_file=annotations, metric="bbox")
        cfg.val_cfg, cfg.resume = dict(type="ValLoop"), resume
        runner, evaluations = Runner.from_cfg(cfg), _Evaluations()
        runner.register_hook(evaluations)
        runner.train()
        return evaluations.at

    before = run(resume=False)
    assert run(resume=True) == before[-1:]
