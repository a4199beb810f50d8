"""A two-head network and a plain training loop around it, also for processes that a test spawns."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lossweave.torch_loop import Weave

TERMS = {"cls": "loss_cls", "box": "loss_box"}


class TwoHeads(nn.Module):
    """A trunk and two heads, in double precision, the same in every process."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.cls, self.box = nn.Linear(8, 3), nn.Linear(8, 4)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
        self.double()

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        inputs, labels, boxes = batch
        shared = self.backbone(inputs)
        return {
            "loss_cls": nn.functional.cross_entropy(self.cls(shared), labels),
            "loss_box": 5 * nn.functional.mse_loss(self.box(shared), boxes),
        }


def batch_of(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A batch that follows from its number."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(4, 6, generator=generator, dtype=torch.float64),
        torch.randint(0, 3, (4,), generator=generator),
        torch.randn(4, 4, generator=generator, dtype=torch.float64),
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients by name."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


class Loop:
    """Model, optimizer and weave, trained update by update."""

    def __init__(self, combiner: Any, with_optimizer: bool = False, **options: Any) -> None:
        self.model = TwoHeads()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.005, momentum=0.9)
        optimizer = self.optimizer if with_optimizer else ()
        self.weave = Weave(
            self.model, combiner, optimizer=optimizer, updates_per_epoch=2, max_updates=8,
            **{"terms": TERMS, **options},
        )  # fmt: skip

    def update(self, seed: int, parts: int = 1) -> dict[str, Tensor]:
        """One update, of one batch or of several; the gradients that it stepped by."""
        for part in range(parts):
            (self.weave(self.model(batch_of(10 * seed + part))) / parts).backward()
        grads = gradients(self.model)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.weave.step()
        return grads

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        parts = {"model": self.model, "optimizer": self.optimizer, "weave": self.weave}
        return {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


def work(rank: int, folder: str, combiners: list[Any]) -> None:
    """What one of the processes does: two updates with every combiner, under DDP."""
    records = []
    for combiner in combiners:
        torch.manual_seed(0)
        model = DistributedDataParallel(TwoHeads())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        weave = Weave(model, combiner, terms=TERMS, updates_per_epoch=2)
        grads = []
        for update in range(2):
            weave(model(batch_of(10 * update + rank))).backward()
            grads.append(gradients(model.module))
            optimizer.step()
            optimizer.zero_grad()
            weave.step()
        records.append({"grads": grads, "state": weave.state_dict()})
    torch.save(records, Path(folder) / f"rank{rank}.pt")
