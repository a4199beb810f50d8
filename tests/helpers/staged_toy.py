"""A training in stages without a framework: a few linear layers, a few iterations a stage."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossweave.host.draws import seed_from
from lossweave.staged.adapter import Adapter, State, Targets
from lossweave.staged.freezing import drop_frozen, freeze, hold_eval, modules_at
from lossweave.staged.measure import StageMeasure
from lossweave.staged.plan import Plan
from lossweave.staged.proposal_file import ProposalFile
from lossweave.staged.proposal_writer import PassWriters
from lossweave.staged.record import StageRecord
from lossweave.staged.stages import Stage
from lossweave.utils.files import replacing

IMAGES = 6
PARTS = ("backbone", "neck", "rpn_head", "roi_head")
CONFIG: Mapping[str, Any] = dict(
    schedule=dict(type="four_step", rpn=dict(iterations=3, lr=0.1), rcnn=dict(iterations=2)),
    proposals=dict(max_per_img=4),
    evaluation=dict(recall=[1, 4]),
)


def toy_config(**schedule: Any) -> dict[str, Any]:
    """The toy's config with a changed schedule."""
    return {**CONFIG, "schedule": {**CONFIG["schedule"], **schedule}}


class ToyDetector(nn.Module):
    """One layer a part; the heads' modules have names of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.neck = nn.Linear(4, 4)
        self.rpn = nn.Linear(4, 4)
        self.roi_head = nn.ModuleDict({"fc": nn.Linear(8, 8), "predictor": nn.Linear(8, 4)})

    def features(self, images: Tensor) -> Tensor:
        return self.neck(self.backbone(images))

    def boxes(self, images: Tensor) -> Tensor:
        corner, size = self.rpn(self.features(images)).chunk(2, dim=1)
        return torch.cat([corner, corner + size.abs() + 0.1], dim=1)

    def detections(self, images: Tensor, proposals: Tensor) -> Tensor:
        both = torch.cat([self.features(images), proposals], dim=1)
        return self.roi_head["predictor"](self.roi_head["fc"](both).relu())


def toy_data() -> tuple[Tensor, Tensor]:
    """Images of four numbers, and a box each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, 4, generator=generator)
    corner = torch.rand(IMAGES, 2, generator=generator)
    return images, torch.cat([corner, corner + 0.5], dim=1)


class ToyAdapter(Adapter):
    """Trains the toy, and keeps a checkpoint of every iteration.

    Args:
        work_dir: where everything goes.
        config: with ``schedule``, ``proposals`` and ``evaluation``.
        seed: of it all.
        at: called with the name of every moment, for tests that stop there.
        lr: where a budget has none.
    """

    framework = "mmdet"  # records know the names of frameworks
    weights_key = "model"
    modules: Mapping[str, str] = {"rpn_head": "rpn"}

    def __init__(
        self,
        work_dir: Path,
        config: Mapping[str, Any] = CONFIG,
        seed: int = 0,
        at: Callable[[str], None] = lambda moment: None,
        lr: float = 0.05,
    ) -> None:
        self.plan = Plan(config, PARTS, predictors=("roi_head.predictor",))
        self.work_dir = work_dir
        self.seed = seed
        self.at = at
        self.lr = lr
        self.lines: list[str] = []

    def check(self) -> None:
        self.at("check")

    def settings(self) -> dict[str, Any]:
        return {"lr": self.lr}

    def config_name(self) -> str:
        return "toy"

    def dump_config(self) -> None:
        self.at("dump_config")
        (self.work_dir / "toy.txt").write_text("toy")

    def init_weights(self, seed: int, fresh: bool) -> tuple[State, nn.Module]:
        self.at(f"init_weights fresh={fresh}")
        torch.manual_seed(seed)
        model = ToyDetector()
        return model.state_dict(), model

    def fit(
        self, stage: Stage, start: Path, proposals: Path | None, seed: int, record: StageRecord
    ) -> tuple[State, dict[str, Any]]:
        model = ToyDetector()
        names = {"rpn_head": "rpn"}
        frozen = [".".join([names.get(p.split(".")[0], p.split(".")[0]), *p.split(".")[1:]])
                  for p in stage.frozen]  # fmt: skip
        absent = [names.get(p, p) for p in PARTS if p not in stage.network]
        held = list(modules_at(model, [*frozen, *absent]).values())
        freeze(held)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=stage.budget.lr or self.lr, momentum=0.9, weight_decay=0.01
        )
        drop_frozen(optimizer)
        measure, newest, begin = StageMeasure(record), start.parent / "iter.pth", 0
        model.load_state_dict(torch.load(start)["model"], strict=False)
        if newest.is_file():
            kept = torch.load(newest)
            begin = kept["iteration"]
            model.load_state_dict(kept["model"])
            optimizer.load_state_dict(kept["optimizer"])
            measure.load_state_dict(kept["measure"])
        images, boxes = toy_data()
        measure.begin(batch_size=3)
        try:
            for iteration in range(begin, stage.budget.iterations):
                model.train()
                hold_eval(held)
                batch = np.random.default_rng(seed_from(seed, iteration)).permutation(IMAGES)[:3]
                self.at(f"fit {stage.name} {iteration}")
                loss = self._loss(model, images[batch], boxes[batch], batch, proposals)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                measure.tick()
                measure.point({"loss": loss.item()})
                with replacing(newest) as temporary:
                    kept = dict(iteration=iteration + 1, model=model.state_dict())
                    kept.update(optimizer=optimizer.state_dict(), measure=measure.state_dict())
                    torch.save(kept, temporary)
                    self.at(f"save {stage.name} {iteration}")
        finally:
            measure.write()
        state = model.state_dict()
        return {n: t for n, t in state.items() if n.split(".")[0] not in absent}, {"toy": (1, 2)}

    def _loss(
        self, model: ToyDetector, images: Tensor, boxes: Tensor, batch: Any, file: Path | None
    ) -> Tensor:
        if file is None:
            return (model.boxes(images) - boxes).square().mean()
        found = ProposalFile(file, verify=False)
        given = torch.tensor(np.stack([found[str(image)][0][0] for image in batch]))
        return (model.detections(images, given) - boxes).square().mean()

    def proposers(self, split: str) -> Any:
        return {"model": "toy", "split": split}

    def make_proposals(
        self, stage: Stage, weights: State, split: str, targets: Targets, key: str
    ) -> dict[str, ProposalFile]:
        model = ToyDetector().eval()
        model.load_state_dict(weights, strict=False)
        writers = PassWriters(targets, key)
        images = toy_data()[0]
        with writers:
            for image in range(writers.take_up(), IMAGES):
                self.at(f"propose {stage.name} {split} {image}")
                with torch.no_grad():
                    box = model.boxes(images[image : image + 1]).numpy()
                found = np.concatenate([box, box + 0.1]), np.array([0.9, 0.5])
                writers.add(str(image), [found] * len(targets))
        writers.close()
        return writers.files()

    def ground_truth(self, split: str) -> dict[str, np.ndarray]:
        self.at(f"ground_truth {split}")
        return {str(image): box[None].numpy() for image, box in enumerate(toy_data()[1])}

    def test_settings(self) -> dict[str, Any]:
        return {"max_per_img": 2}

    def evaluate(
        self, stage: Stage | None, checkpoint: Path, proposals: Path | None, folder: Path
    ) -> dict[str, float]:
        self.at(f"evaluate {stage.name if stage else 'whole'}")
        state = torch.load(checkpoint)["model"]
        return {"AP": float(state["roi_head.fc.weight"].sum().sigmoid()), "AP50": 0.5}

    def log(self, message: str) -> None:
        self.lines.append(message)
