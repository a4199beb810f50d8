"""What each value-based combiner adds to a training step of a detector.

The combined detectors are built as a config builds them, and then given the STOCK detector's
own modules: both run the same weights at the same addresses, so what differs is the combiner.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor
from tqdm import tqdm

from lossweave.combiners import combiner_names
from lossweave.combiners.registry import combiner_class
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.mmdet.draws import SeededBatchSampler
from lossweave.mmdet.hook import CombinerHook
from lossweave.progress import Progress
from lossweave.studies.benchmark.syncs import count_syncs
from lossweave.studies.benchmark.timing import PairedTimes, interleaved, quiet, seconds_of
from lossweave.studies.report.tables import markdown_table, text_table
from lossweave.utils.provenance import machine_line, provenance

__all__ = [
    "CONTROL",
    "DETECTORS",
    "Benchmark",
    "Cost",
    "DetectorResult",
    "Step",
    "build_detector",
    "fixed_batch",
    "measure_detector",
    "optimizer_of",
    "run_benchmark",
    "sharing",
    "value_combiners",
]

#: The row that pairs the stock detector with itself.
CONTROL = "stock (control)"


@dataclass(frozen=True)
class _Setting:
    config: str
    size: tuple[int, int]  # height and width of the pictures


#: Per detector, what is measured on a CPU and what on a GPU.
DETECTORS: dict[str, dict[str, _Setting]] = {
    "retinanet": {
        "cpu": _Setting("lossweave::mmdet/demo/retinanet_demo.py", (160, 160)),
        "cuda": _Setting("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", (800, 1216)),
    },
    "ssd": {
        "cpu": _Setting("lossweave::mmdet/demo/ssd_demo.py", (160, 160)),
        "cuda": _Setting("mmdet::ssd/ssd300_coco.py", (300, 300)),
    },
    "faster_rcnn": {
        "cpu": _Setting("lossweave::mmdet/demo/faster-rcnn_demo.py", (160, 160)),
        "cuda": _Setting("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", (800, 1216)),
    },
}


@dataclass(frozen=True)
class Benchmark:
    """What to measure.

    Args:
        detectors: keys of :data:`DETECTORS`.
        combiners: names; None means all value-based ones.
        rounds: paired rounds of A B B A whole steps.
        repeats: repetitions of the cost alone.
        batch_size: pictures a step.
        threads: torch threads; None leaves torch's choice.
        device: 'cpu' or 'cuda'; None means cuda if there is one.
        work_dir: where the result is written.
        command: the command that asked for it.
    """

    detectors: tuple[str, ...] = tuple(DETECTORS)
    combiners: tuple[str, ...] | None = None
    rounds: int = 12
    repeats: int = 300
    batch_size: int = 4
    threads: int | None = None
    device: str | None = None
    work_dir: str = "work_dirs/benchmark"
    command: str = "python tools/benchmark.py"


@dataclass(frozen=True)
class Cost:
    """What one combiner costs beside the stock detector.

    Args:
        step: whole training steps, paired with stock ones.
        own: parse_losses and the backward pass down to the raw losses, likewise.
        forward: parse_losses alone, likewise.
        added_syncs: host-device synchronisations in a step beyond the stock step's.
    """

    step: PairedTimes
    own: PairedTimes
    forward: PairedTimes
    added_syncs: int


@dataclass(frozen=True)
class DetectorResult:
    """The measurements on one detector.

    Args:
        detector: its name.
        config: its config.
        step_seconds: median stock step.
        stock_syncs: synchronisations in a stock step.
        hook_seconds: what the hook adds to an iteration between logged ones, median.
        costs: by combiner, :data:`CONTROL` among them.
    """

    detector: str
    config: str
    step_seconds: float
    stock_syncs: int
    hook_seconds: float
    costs: dict[str, Cost]

    @property
    def fastest(self) -> float:
        """Seconds of the fastest round of stock steps."""
        return min(min(cost.step.a) for cost in self.costs.values())

    def factor(self, name: str) -> tuple[float, float, float]:
        """An iteration with the combiner, in stock iterations, from its cost alone: median and
        interval."""
        own = self.costs[name].own
        low, high = own.interval("differences")
        return (
            1 + own.difference / self.step_seconds,
            1 + low / self.step_seconds,
            1 + high / self.step_seconds,
        )


def value_combiners() -> list[str]:
    """The registered combiners that need the losses' values only, no gradient per term."""
    return [n for n in combiner_names() if not getattr(combiner_class(n), "needs_gradients", False)]


def run_benchmark(benchmark: Benchmark) -> list[DetectorResult]:
    """Measure, print a table per detector, write ``benchmark.md`` and ``benchmark.json``.

    Raises:
        LossweaveError: an unknown detector or combiner.

    Example:
        >>> run_benchmark(Benchmark(("ssd",), ("DWA",), rounds=3))  # doctest: +SKIP
    """
    started = time.perf_counter()
    unknown = [name for name in benchmark.detectors if name not in DETECTORS]
    if unknown:
        raise LossweaveError(f"detector {unknown[0]!r} should be one of {', '.join(DETECTORS)}")
    combiners = list(benchmark.combiners or value_combiners())
    for name in combiners:
        combiner_class(name)
    if benchmark.threads:
        torch.set_num_threads(benchmark.threads)
    device = benchmark.device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for detector in benchmark.detectors:
        setting = DETECTORS[detector][device.split(":")[0]]
        cfg = load_config(setting.config)
        batch = fixed_batch(cfg, setting.size, benchmark.batch_size)
        result = measure_detector(
            detector,
            setting.config,
            cfg,
            batch,
            combiners,
            benchmark.rounds,
            benchmark.repeats,
            device,
        )
        results.append(result)
        print(f"\n{_heading(result)}\n{text_table(*_rows(result))}\n", flush=True)
    minutes = (time.perf_counter() - started) / 60
    folder = Path(benchmark.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    facts = provenance(benchmark.command, minutes=round(minutes, 1), settings=asdict(benchmark))
    content = {**facts, "results": [asdict(result) for result in results]}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1))
    (folder / "benchmark.md").write_text(_markdown(results, facts, benchmark, device))
    print(f"written: {folder / 'benchmark.md'}, {folder / 'benchmark.json'}; {minutes:.1f} min")
    return results


# ---------------------------------------------------------------------------- measuring


def measure_detector(
    detector: str,
    config: str,
    cfg: Config,
    batch: dict[str, Any],
    combiners: list[str],
    rounds: int,
    repeats: int,
    device: str = "cpu",
) -> DetectorResult:
    """Measure combiners on one detector.

    Args:
        detector: its name, for the result.
        config: its config's name, for the result.
        cfg: a config with ``model`` and ``optim_wrapper``, combined or stock.
        batch: what a data loader would give.
        combiners: names.
        rounds: paired rounds of whole steps.
        repeats: repetitions of the cost alone.
        device: 'cpu' or 'cuda'.
    """
    init_default_scope("mmdet")
    stock = build_detector(cfg, None).to(device).train()
    twins = {CONTROL: sharing(build_detector(cfg, None), stock)}
    for name in combiners:
        twins[name] = sharing(build_detector(cfg, name), stock).to(device)
    optimizer = optimizer_of(stock, cfg)

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    steps = {name: Step(model, optimizer, batch, wait) for name, model in twins.items()}
    reference = Step(stock, optimizer, batch, wait)
    for step in (reference, reference, *steps.values()):  # caches, and checks of the first step
        step()
    stock_syncs = count_syncs(reference.run, device)
    syncs = {name: count_syncs(step.run, device) - stock_syncs for name, step in steps.items()}

    losses = _losses(stock, batch)
    with tqdm(total=len(steps) * rounds, desc=f"{detector}, steps", leave=False) as bar:
        whole = interleaved(reference, dict(steps), rounds, tick=bar.update)
    with tqdm(twins.items(), desc=f"{detector}, cost alone", leave=False) as bar:
        alone = {name: _alone(stock, model, losses, repeats, wait) for name, model in bar}
    return DetectorResult(
        detector=detector,
        config=config,
        step_seconds=float(np.median([t for times in whole.values() for t in times.a])),
        stock_syncs=stock_syncs,
        hook_seconds=_hook_seconds(twins, optimizer, losses, repeats),
        costs={name: Cost(whole[name], *alone[name], syncs[name]) for name in twins},
    )


class Step:
    """One training step: forward, parse_losses, backward, optimizer.

    The random state is the same before each, so samplers of boxes do the same work.
    """

    def __init__(
        self, model: Any, optimizer: OptimWrapper, batch: Any, wait: Callable[[], None]
    ) -> None:
        self.model, self.optimizer, self.batch, self.wait = model, optimizer, batch, wait
        self.iteration = 0

    def __call__(self) -> float:
        torch.manual_seed(0)
        np.random.seed(0)
        return seconds_of(self.run, self.wait)

    def run(self) -> None:
        _advance(self.model, self.iteration)
        self.iteration += 1
        self.model.train_step(self.batch, self.optimizer)


def _advance(model: Any, iteration: int) -> None:
    """What the hook does before an iteration, for combiners that count updates."""
    combination = getattr(model, "loss_combination", None)
    if combination is not None:
        combination.set_progress(
            Progress(iteration=iteration, max_iterations=10_000, iterations_per_epoch=50)
        )


class _Own:
    """parse_losses, and the backward pass from its scalar down to the raw losses."""

    def __init__(self, model: Any, losses: Mapping[str, Any], wait: Callable[[], None]) -> None:
        self.model, self.losses, self.wait = model, losses, wait
        self.iteration = 0
        self.forwards: list[float] = []

    def __call__(self) -> float:
        self.forwards.append(seconds_of(self._forward, self.wait))
        return self.forwards[-1] + seconds_of(self._backward, self.wait)

    def _forward(self) -> None:
        _advance(self.model, self.iteration)
        self.iteration += 1
        self.total, _ = self.model.parse_losses(self.losses)

    def _backward(self) -> None:
        self.total.backward()


def _alone(
    stock: Any,
    model: Any,
    losses: Mapping[str, Any],
    repeats: int,
    wait: Callable[[], None],
) -> tuple[PairedTimes, PairedTimes]:
    """The own cost, paired, and of it the part of parse_losses."""
    a, b = _Own(stock, losses, wait), _Own(model, losses, wait)
    for _ in range(5):
        a(), b()
    a.forwards.clear()
    b.forwards.clear()
    both = interleaved(a, {"b": b}, repeats)["b"]
    # a round calls each twice
    means = [np.reshape(own.forwards, (-1, 2)).mean(axis=1).tolist() for own in (a, b)]
    return both, PairedTimes(tuple(means[0]), tuple(means[1]))


def _hook_seconds(
    twins: Mapping[str, Any], optimizer: OptimWrapper, losses: Mapping[str, Any], repeats: int
) -> float:
    """Median seconds of the hook in an iteration that logs nothing."""
    model = next((m for name, m in twins.items() if name != CONTROL), None)
    if model is None:
        return float("nan")
    hub = MessageHub.get_instance("lossweave_benchmark")
    _, outputs = model.parse_losses(dict(losses))
    for name, value in outputs.items():
        hub.update_scalar(f"train/{name}", value)
    hook = CombinerHook(interval=10**9)
    loader = SimpleNamespace(batch_sampler=SeededBatchSampler(range(8), 2))  # type: ignore[arg-type]
    runner: Any = SimpleNamespace(
        model=model,
        train_dataloader=loader,
        hooks=[],
        optim_wrapper=optimizer,
        iter=0,
        max_iters=10_000,
        message_hub=hub,
    )
    hook.before_train(runner)

    def run() -> None:
        hook.before_train_iter(runner, 0)
        hook.after_train_iter(runner, 0, outputs=outputs)

    with quiet():
        seconds = [seconds_of(run, lambda: None) for _ in range(repeats)]
    hook.after_train(runner)
    return float(np.median(seconds))


# ------------------------------------------------------------------------------ building


def fixed_batch(
    cfg: Config, size: tuple[int, int], batch_size: int, boxes: int = 4
) -> dict[str, Any]:
    """A batch of noise with boxes: the work of a step hardly depends on what is in a picture.

    Args:
        cfg: the detector's config, for its number of classes.
        size: height and width in pixels.
        batch_size: number of pictures.
        boxes: objects a picture.

    Returns:
        What MMDetection's data loader gives: 'inputs' and 'data_samples'.
    """
    generator = np.random.default_rng(0)
    height, width = size
    classes = _classes(cfg)
    inputs, samples = [], []
    for _ in range(batch_size):
        picture = generator.integers(0, 256, (3, height, width), dtype=np.uint8)
        sides = generator.uniform(0.15, 0.4, (boxes, 2)) * [width, height]
        corners = generator.uniform(0, 1, (boxes, 2)) * ([width, height] - sides)
        truth = InstanceData(
            bboxes=torch.tensor(np.hstack([corners, corners + sides]), dtype=torch.float32),
            labels=torch.tensor(generator.integers(0, classes, boxes)),
        )
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta, gt_instances=truth)
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
        inputs.append(torch.from_numpy(picture))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def _classes(cfg: Config) -> int:
    roi = cfg.model.get("roi_head")
    head = roi.bbox_head if roi is not None else cfg.model.bbox_head
    return int((head[0] if isinstance(head, list) else head).num_classes)


def build_detector(cfg: Config, combiner: str | None) -> Any:
    """The config's detector under a combiner, or stock, whatever the config says of it."""
    cfg = cfg.copy()
    if combiner is not None:
        return MODELS.build(with_combiner(cfg, combiner).model)
    model = cfg.model
    if "base_detector" in model:
        model["type"] = model.pop("base_detector")
        for key in ("combiner", "terms", "extra", "on_nonfinite"):
            model.pop(key, None)
    return MODELS.build(model)


def sharing(model: Any, stock: Any) -> Any:
    """The model with the stock detector's own modules, so that both have the same weights."""
    for name, module in stock.named_children():
        setattr(model, name, module)
    return model.train()


def optimizer_of(model: Any, cfg: Config) -> OptimWrapper:
    """The config's optimizer with a step too small to matter: every step does the same work."""
    own = cfg.optim_wrapper.to_dict()
    own["type"] = "OptimWrapper"
    own["optimizer"]["lr"] = 1e-9
    own.pop("paramwise_cfg", None)  # which says a line per parameter, and changes no work
    return build_optim_wrapper(model, own)


def _losses(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """The raw losses of the batch, cut off from the detector."""
    torch.manual_seed(0)
    data = model.data_preprocessor(batch, True)
    found = model._run_forward(data, mode="loss")

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().requires_grad_(value.is_floating_point())
        return [cut(part) for part in value]

    return {name: cut(value) for name, value in found.items()}


# ------------------------------------------------------------------------------ reporting


def _rows(result: DetectorResult) -> tuple[list[str], list[list[str]]]:
    header = [
        "combiner",
        "step ratio",
        "95 % interval",
        "quartiles",
        "min .. max",
        "own cost (us)",
        "of it parse_losses",
        "iteration",
        "95 % interval of it",
        "syncs added",
    ]
    rows = []
    for name, cost in result.costs.items():
        low, high = cost.step.interval()
        least, first, third, most = cost.step.quantiles(0, 0.25, 0.75, 1)
        factor, factor_low, factor_high = result.factor(name)
        micro = 1e6 * cost.own.difference
        rows.append(
            [
                name,
                f"{cost.step.ratio:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{first:.3f} to {third:.3f}",
                f"{least:.3f} .. {most:.3f}",
                f"{micro:.0f}",
                f"{1e6 * cost.forward.difference:.0f}",
                f"{factor:.4f}",
                f"{factor_low:.4f} to {factor_high:.4f}",
                str(cost.added_syncs),
            ]
        )
    return header, rows


def _heading(result: DetectorResult) -> str:
    return (
        f"{result.detector} ({result.config}): stock step {1e3 * result.step_seconds:.0f} ms "
        f"(fastest {1e3 * result.fastest:.0f}) with {result.stock_syncs} synchronisations; "
        f"hook {1e6 * result.hook_seconds:.0f} us "
        f"an iteration ({100 * result.hook_seconds / result.step_seconds:.2f} %)"
    )


def _markdown(
    results: list[DetectorResult], facts: Mapping[str, Any], benchmark: Benchmark, device: str
) -> str:
    worst = max(
        (
            (result.factor(name)[0], name, result.detector)
            for result in results
            for name in result.costs
            if name != CONTROL
        ),
        default=(float("nan"), "-", "-"),
    )
    controls = ", ".join(
        f"{result.costs[CONTROL].step.ratio:.3f} ({result.detector})" for result in results
    )
    parts = [
        "# What a combiner costs",
        f"Measured {facts['date']} in {facts['minutes']} minutes by\n\n"
        f"```bash\n{facts['command']}\n```\n\non {machine_line()}; "
        + ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        + ".",
        "**What is measured.** A step is forward, `parse_losses`, backward and optimizer on one "
        f"batch of {benchmark.batch_size} pictures. The stock detector and the combined one share "
        "their weights and take turns in one process "
        f"(A B B A, {benchmark.rounds} rounds, a new order of combiners each round). *Step ratio* "
        "is the median of the paired ratios, with a bootstrap interval of that median, "
        "quartiles and extremes. The control row pairs the stock detector with itself, so what it "
        f"shows beside 1 is noise: {controls}.",
        "That noise is larger than what is asked about, so the cost is also measured alone. *Own "
        "cost* is the median of paired differences, combined less stock, of `parse_losses` and "
        "the backward pass from the scalar down to the raw losses, in microseconds "
        f"({benchmark.repeats} rounds), and *iteration* is 1 + own cost / stock step. "
        "Its interval is that of the own cost; the stock step is the median of this run. "
        "*Syncs added* counts what would make the host wait for the device in a whole step, "
        "beyond the stock step's own"
        + (", as torch reports it." if device != "cpu" else " (on a CPU: such operators).")
        + " The hook's time is given in each heading; it comes on top.",
        f"**Result.** The most expensive combiner by its own cost is {worst[1]} on {worst[2]}: "
        f"{worst[0]:.4f} stock iterations. The aim is 1.01.",
    ]
    for result in results:
        table = markdown_table(*_rows(result))
        parts.append(f"## {result.detector}\n\n{_heading(result)}.\n\n{table}")
    if any("Alternating" in result.costs for result in results):
        parts.append(
            "`Alternating` and other methods that leave a term out of an update can be faster than "
            "the stock step: no gradient is computed for that term."
        )
    return "\n\n".join(parts) + "\n"
