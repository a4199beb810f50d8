"""Training in stages under MMDetection: ``runner_type='lossweave.AlternatingRunner'``.

Every stage is an ordinary Runner in a folder of its own. What is done is known from the files
that it has left, so a training goes on wherever it was stopped, to the same weights bit for bit
(on a GPU as far as its kernels repeat; ``randomness=dict(deterministic=True)`` asks for it)::

    work_dir/initial.pth              the seed's first weights, of the whole detector
    work_dir/<stage>/initial.pth      what the stage starts from
    work_dir/<stage>/iter_*.pth       ordinary checkpoints
    work_dir/<stage>/final.pth        what the stage ends in
    work_dir/<stage>/proposals.npz    fixed proposals for a later stage
    work_dir/unified.pth              the final detector, an ordinary checkpoint
    work_dir/record.json              see lossweave.alternating.record
"""

from __future__ import annotations

import gc
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_rank, init_dist, is_distributed
from mmengine.logging import MMLogger, print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, find_latest_checkpoint, load_checkpoint, set_random_seed

from lossweave.alternating.files import replacing
from lossweave.alternating.freezing import digest, modules_at, unchanged
from lossweave.alternating.proposals import ProposalFile, fingerprint
from lossweave.alternating.recall import average_recall
from lossweave.alternating.record import (
    RECORD_FILE,
    ProposalPass,
    StageRecord,
    TrainingRecord,
    UnifiedRecord,
)
from lossweave.alternating.stages import FRESH, INITIAL, PARTS, Stage
from lossweave.draws import seed_from
from lossweave.errors import LossweaveError
from lossweave.machine import machine, versions
from lossweave.mmdet.alternating_configs import (
    PlanSettings,
    evaluation_config,
    pipelines_of,
    plain_config,
    proposal_loader,
    stage_config,
    stage_model,
)
from lossweave.mmdet.alternating_hooks import StageClockHook, StageRecordHook
from lossweave.mmdet.alternating_passes import objects_of, proposal_pass
from lossweave.registry import RUNNERS

__all__ = ["AlternatingRunner"]

State = dict[str, torch.Tensor]
#: Metrics of the record, and what MMDetection's evaluators call them.
_METRICS = {
    "AP": ("coco/bbox_mAP",),
    "AP50": ("coco/bbox_mAP_50", "pascal_voc/AP50"),
}


@RUNNERS.register_module()
class AlternatingRunner:
    """Runs the stages of a schedule, one after the other, and records them.

    In a config::

        runner_type = 'lossweave.AlternatingRunner'
        schedule = dict(
            type='four_step',                       # or 'joint', or 'stages' with a list of them
            rpn=dict(iterations=80000, batch_size=1, lr=1e-3, drops=[60000]),
            rcnn=dict(iterations=40000, batch_size=2, lr=1e-3, drops=[30000]),
            joint=dict(iterations=70000, batch_size=2, lr=1e-3, drops=[50000]))
        proposals = dict(max_per_img=2000)          # what is missing is the paper's
        evaluation = dict(split='val', stages=True, recall=[100, 300, 1000])

    The rest of the config is that of the detector's ordinary training; a combiner in it works on
    each stage's own terms, and starts anew with the stage. Validation and testing with such a
    config are the ordinary ones of the detector. The seed is ``randomness.seed``, 0 without one:
    it decides the first weights, which all stages and joint training share, and with the number
    of the stage the order of its data and its sampling.

    Args:
        cfg: the config, with a ``work_dir``.

    Raises:
        LossweaveError: a wrong schedule or config, before anything is trained.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        init_default_scope(cfg.get("default_scope", "mmdet"))
        self.settings = PlanSettings(cfg)
        self.schedule = self.settings.schedule
        self.work_dir = Path(cfg.work_dir)
        self.seed = int((cfg.get("randomness") or {}).get("seed") or 0)
        self.record: TrainingRecord | None = None
        self._plain: Runner | None = None

    @classmethod
    def from_cfg(cls, cfg: Config) -> AlternatingRunner:
        """What MMEngine's registry calls."""
        return cls(cfg)

    # ------------------------------------------------------------- the ordinary detector

    def plain_runner(self) -> Runner:
        """An ordinary Runner of the whole detector, for validation and tests."""
        if self._plain is None:
            made = plain_config(self.cfg, self.work_dir, "plain")
            made.load_from = self.cfg.get("load_from")
            made.train_cfg = made.train_dataloader = made.optim_wrapper = None
            made.param_scheduler = made.auto_scale_lr = None
            self._plain = Runner.from_cfg(made)
        return self._plain

    def test(self) -> dict[str, float]:
        """Test the whole detector from ``load_from``."""
        return self.plain_runner().test()

    def val(self) -> dict[str, float]:
        """Validate the whole detector from ``load_from``."""
        return self.plain_runner().val()

    @property
    def test_evaluator(self) -> Any:
        """The ordinary Runner's."""
        return self.plain_runner().test_evaluator

    # ------------------------------------------------------------------------- training

    def train(self) -> TrainingRecord:
        """Train all stages, from where the work directory stands; the record.

        Raises:
            LossweaveError: the directory holds another training, a stage changed what it
                freezes, or a proposal file is stale or damaged.
        """
        self._set_up()
        record = self.record = self._open_record()
        if record.finished:
            print_log(f"{self.work_dir} is finished already", "current")
            return record
        self._initial()
        for stage in self.schedule.stages:
            print_log(f"stage {stage.name!r} of {self._outline()}", "current")
            self._train(stage)
            if self.schedule.makes_proposals(stage.name):
                self._propose(stage)
            self._evaluate(stage)
        self._finish()
        return record

    def _set_up(self) -> None:
        cfg = self.cfg
        if cfg.get("launcher", "none") != "none" and not is_distributed():
            init_dist(cfg.launcher, **(cfg.get("env_cfg") or {}).get("dist_cfg", {}))
        if cfg.get("resume") and cfg.get("load_from"):
            raise LossweaveError(
                "a staged training resumes where its work directory stands; --resume takes no "
                "checkpoint here"
            )
        has_begun = (self.work_dir / RECORD_FILE).is_file()
        if has_begun and not cfg.get("resume"):
            raise LossweaveError(
                f"{self.work_dir} holds a training already; go on with --resume, or choose "
                "another --work-dir"
            )
        barrier()

    def _open_record(self) -> TrainingRecord:
        options = self.settings.options(self.cfg)
        try:
            record = TrainingRecord.load(self.work_dir)
        except LossweaveError:
            if (self.work_dir / RECORD_FILE).is_file():
                raise
            record = TrainingRecord(
                kind=self.settings.kind,
                framework="mmdet",
                config=_config_name(self.cfg),
                seed=self.seed,
                options=options,
                command=shlex.join(["python", *sys.argv]).replace(f"{Path.cwd()}/", ""),
                machine=machine(),
                versions=versions(),
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        for name in ("schedule", "proposals"):
            if record.options.get(name) != options[name]:
                raise LossweaveError(
                    f"{self.work_dir} holds a training with another {name}; choose another "
                    "--work-dir"
                )
        if record.seed != self.seed:
            raise LossweaveError(f"{self.work_dir} holds a training of seed {record.seed}")
        self.record = record
        self.work_dir.mkdir(parents=True, exist_ok=True)
        if get_rank() == 0:
            name = Path(self.cfg.filename).name if self.cfg.filename else "config.py"
            self.cfg.dump(str(self.work_dir / name))
        self._save_record()
        return record

    def _save_record(self) -> None:
        if get_rank() == 0 and self.record is not None:
            self.record.save(self.work_dir)
        barrier()

    def _stage_record(self, stage: Stage) -> StageRecord:
        assert self.record is not None
        found = self.record.stage(stage.name)
        found.parts = {"trained": list(stage.trained), "frozen": list(stage.frozen)}
        return found

    def _folder(self, stage: Stage | str) -> Path:
        return self.work_dir / (stage if isinstance(stage, str) else stage.name)

    def _seed(self, stage: Stage) -> int:
        # Joint training and the first stage meet the data in the same order.
        return seed_from(self.seed, self.schedule.index(stage.name))

    def _outline(self) -> str:
        return " -> ".join(stage.name for stage in self.schedule.stages)

    # --------------------------------------------------------------------------- weights

    def _initial(self) -> Path:
        """The first weights, which do not depend on the schedule."""
        path = self.work_dir / "initial.pth"
        if _missing(path):
            state, model = self._drawn(self.seed, self.cfg.get("load_from"))
            paths = {p for s in self.schedule.stages for p in (*s.frozen, *s.init)}
            modules_at(model, sorted(paths))  # all that a stage names must be there
            if get_rank() == 0:
                _save(path, state)
            barrier()
        return path

    def _drawn(self, seed: int, load_from: str | None = None) -> tuple[State, torch.nn.Module]:
        set_random_seed(seed)
        model = MODELS.build(self.cfg.model)
        with _quietly():  # MMEngine says a line per parameter, to the terminal if no file is open
            model.init_weights()
        if load_from:
            load_checkpoint(model, load_from, map_location="cpu")
        return _of_parts(model.state_dict()), model

    def _start_of(self, stage: Stage) -> Path:
        """The weights that a stage starts from, put together from where they come from."""
        path = self._folder(stage) / "initial.pth"
        if not _missing(path):
            return path
        states: dict[str, State] = {INITIAL: _load(self._initial())}
        start: State = {}
        for name in states[INITIAL]:
            if name.split(".")[0] not in stage.network:
                continue
            source = stage.source(name) or INITIAL
            if source not in states:
                if source == FRESH:
                    states[source] = self._drawn(seed_from(self._seed(stage), 1))[0]
                else:
                    states[source] = _load(self._folder(source) / "final.pth")
            start[name] = states[source][name]
        if get_rank() == 0:
            _save(path, start)
        barrier()
        return path

    def _network(self, stage: Stage) -> torch.nn.Module:
        """The network that a stage ended in."""
        model = MODELS.build(stage_model(self.cfg, stage))
        model.load_state_dict(_load(self._folder(stage) / "final.pth"), strict=False)
        return model.to(get_device()).eval()

    # ---------------------------------------------------------------------------- stages

    def _train(self, stage: Stage) -> None:
        folder, record = self._folder(stage), self._stage_record(stage)
        final = folder / "final.pth"
        if final.is_file():
            return
        proposals = None
        if stage.proposals is not None:
            proposals = str(self._folder(stage.proposals) / "proposals.npz")
            ProposalFile(proposals, key=self._proposal_key(self.schedule[stage.proposals]))
        cfg = stage_config(self.cfg, stage, proposals, self._seed(stage))
        start = self._start_of(stage)
        if find_latest_checkpoint(str(folder)) is not None:
            cfg.resume = True
        else:
            cfg.load_from = str(start)
        runner = Runner.from_cfg(cfg)
        hook = StageRecordHook(record)
        runner.register_hook(hook)
        runner.register_hook(StageClockHook(hook))
        try:
            runner.train()
        except BaseException:
            hook.write()
            if get_rank() == 0 and self.record is not None:
                self.record.save(self.work_dir)  # the other processes may be elsewhere
            raise
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        state = _of_parts(model.state_dict())
        frozen = [name for name in state if _within(name, stage.frozen)]
        before = _load(start)
        unchanged(
            digest({name: before[name] for name in frozen}),
            digest({name: state[name] for name in frozen}),
            f"stage {stage.name!r}",
        )
        self._save_record()  # first: a stage with an end is not trained, so not measured, again
        if get_rank() == 0:
            _save(final, state, self._meta(runner))
        barrier()
        del runner, model
        gc.collect()

    def _meta(self, runner: Runner) -> dict[str, Any]:
        return {
            "dataset_meta": getattr(runner.train_dataloader.dataset, "metainfo", {}),
            "cfg": plain_config(self.cfg, self.work_dir, "unified").pretty_text,
            "seed": self.seed,
            "mmengine_version": mmengine.__version__,
        }

    # ------------------------------------------------------------------------- proposals

    def _proposal_key(self, stage: Stage, split: str = "train", settings: Any = None) -> str:
        """What makes a stage's proposals, as a checksum: weights, settings, model, pipelines."""
        loader = proposal_loader(self.cfg, split)
        return fingerprint(
            _load(self._folder(stage) / "final.pth"),
            {
                "settings": settings or self.settings.proposals,
                "model": self.cfg.model.to_dict(),
                "pipelines": pipelines_of(loader.dataset),
            },
        )

    def _propose(self, stage: Stage) -> None:
        path, record = self._folder(stage) / "proposals.npz", self._stage_record(stage)
        key = self._proposal_key(stage)
        if path.is_file():
            found = ProposalFile(path, key)
        else:
            loader = proposal_loader(self.cfg, "train", self.settings.proposal_batch_size)
            targets = {"train": (path, self.settings.proposals)}
            label = f"proposals of {stage.name}"
            files, _ = proposal_pass(self._network(stage), loader, targets, key, label)
            found = files["train"]
        record.proposals = ProposalPass(
            seconds=found.seconds,
            images=len(found),
            per_image=found.per_image,
            file=str(path.relative_to(self.work_dir)),
            checksum=found.checksum,
        )
        self._save_record()

    # ------------------------------------------------------------------------ evaluation

    def _evaluate(self, stage: Stage) -> None:
        record = self._stage_record(stage)
        last = stage is self.schedule.stages[-1]
        if record.metrics or not (last or self.settings.evaluate_stages):
            return
        begin, metrics = time.perf_counter(), {}
        if "rpn_head" in stage.network:
            metrics.update(self._recall(stage))
        rpn = self.schedule.last("rpn_head", until=stage.name)
        if "roi_head" in stage.network and rpn is not None:
            metrics.update(self._detection(rpn, stage))
            if rpn is not stage:
                metrics.update(self._recall(rpn))
        record.metrics = metrics
        record.evaluation_seconds += time.perf_counter() - begin
        print_log(f"after {stage.name}: {_line(metrics)}", "current")
        self._save_record()

    def _recall(self, stage: Stage) -> dict[str, float]:
        """Average recall of the RPN that a stage ended in."""
        if not self.settings.recall:
            return {}
        assert self.record is not None
        known = {k: v for k, v in self.record.stage(stage.name).metrics.items() if "AR@" in k}
        if known:
            return known
        files, dataset = self._evaluation_pass(stage)
        boxes = {image: files["recall"][image][0] for image in files["recall"]}
        return average_recall(objects_of(dataset), boxes, self.settings.recall)

    def _evaluation_pass(self, stage: Stage) -> tuple[dict[str, ProposalFile], Any]:
        """Proposals for the evaluated split: as many as recall asks for, and as tests use."""
        split, folder = self.settings.split, self._folder(stage)
        loader = proposal_loader(self.cfg, split, self.settings.proposal_batch_size)
        test = self.cfg.model.test_cfg.rpn.to_dict()
        many = max((*self.settings.recall, 1))
        recall = {**test, "nms_pre": max(many, test.get("nms_pre", 0)), "max_per_img": many}
        targets = {
            "recall": (folder / f"{split}_recall.npz", recall),
            "detection": (folder / f"{split}_proposals.npz", test),
        }
        key = self._proposal_key(stage, split=split, settings=[recall, test])
        if all(path.is_file() for path, _ in targets.values()):
            files = {name: ProposalFile(path, key) for name, (path, _) in targets.items()}
            return files, Runner.build_dataloader(loader, seed=0).dataset
        label = f"{split} proposals of {stage.name}"
        return proposal_pass(self._network(stage), loader, targets, key, label)

    def _detection(self, rpn: Stage, roi: Stage) -> dict[str, float]:
        """AP of the system that two stages ended in: one detector, or two networks."""
        split, folder = self.settings.split, self._folder(roi)
        if self.schedule.share(rpn, roi):
            checkpoint = self._unify(rpn, roi)
            model, proposals = self.cfg.model, None
        else:
            self._evaluation_pass(rpn)
            proposals = str(self._folder(rpn) / f"{split}_proposals.npz")
            checkpoint, model = folder / "final.pth", stage_model(self.cfg, roi)
        cfg = evaluation_config(self.cfg, split, model, str(checkpoint), folder, proposals)
        runner = Runner.from_cfg(cfg)
        found = runner.val() if split == "val" else runner.test()
        return _metrics(found)

    def _unify(self, rpn: Stage, roi: Stage) -> Path:
        """One detector of two networks that have the same weights below their heads."""
        whole = self.schedule.stages[-1] in (rpn, roi)
        path = self.work_dir / "unified.pth" if whole else self._folder(roi) / "detector.pth"
        if not _missing(path):
            return path
        first, second = (_load(self._folder(s) / "final.pth") for s in (rpn, roi))
        below = [name for name in first if not _within(name, ("rpn_head", "roi_head"))]
        unchanged(
            digest({name: first[name] for name in below}),
            digest({name: second[name] for name in below}),
            f"{rpn.name!r} and {roi.name!r} share what is below their heads, but",
        )
        if get_rank() == 0:
            meta = torch.load(self._folder(roi) / "final.pth", weights_only=False)["meta"]
            heads = {n: first[n] for n in first if _within(n, ("rpn_head",))}
            state = {**second, **heads}
            order = _load(self.work_dir / "initial.pth")
            _save(path, {name: state[name] for name in order}, meta)
        barrier()
        return path

    def _finish(self) -> None:
        assert self.record is not None
        rpn, roi = self.schedule.last("rpn_head"), self.schedule.last("roi_head")
        if rpn is not None and roi is not None and self.schedule.share(rpn, roi):
            path = self._unify(rpn, roi)
            metrics = dict(self.record.stage(self.schedule.stages[-1].name).metrics)
            if "roi_head" not in self.schedule.stages[-1].network:
                metrics.update(self._detection(rpn, roi))
            self.record.unified = UnifiedRecord(str(path.relative_to(self.work_dir)), metrics)
            print_log(f"the detector is {path}: {_line(metrics)}", "current")
        self.record.finished = True
        self._save_record()


def _config_name(cfg: Config) -> str:
    if not cfg.filename:
        return ""
    path = Path(cfg.filename).resolve()
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name


def _of_parts(state: Mapping[str, torch.Tensor]) -> State:
    return {k: v.detach().cpu() for k, v in state.items() if k.split(".")[0] in PARTS}


def _within(name: str, paths: tuple[str, ...]) -> bool:
    return any(name == path or name.startswith(f"{path}.") for path in paths)


@contextmanager
def _quietly() -> Iterator[None]:
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def _missing(path: Path) -> bool:
    """Whether there is no such file yet; every process says the same."""
    found = path.is_file()
    barrier()  # none of them writes it before all have looked
    return not found


def _save(path: Path, state: State, meta: dict[str, Any] | None = None) -> None:
    with replacing(path) as temporary:
        torch.save({"state_dict": state, "meta": meta or {}}, temporary)


def _load(path: Path) -> State:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    except FileNotFoundError:
        raise LossweaveError(f"{path} is missing; its stage must be trained again") from None


def _metrics(found: Mapping[str, float]) -> dict[str, float]:
    return {
        name: float(found[key]) for name, keys in _METRICS.items() for key in keys if key in found
    }


def _line(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()) or "not evaluated"
