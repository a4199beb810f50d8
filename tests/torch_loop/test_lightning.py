"""A Lightning module: two lines of it, and the weave is in Lightning's own checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.torch_loop_toy import TERMS, TwoHeads, batch_of
from torch import Tensor

from lossweave.torch_loop import Weave

lightning = pytest.importorskip("pytorch_lightning", reason="it comes with the extra 'test'")


class Module(lightning.LightningModule):
    """As one writes it; what is lossweave's is marked."""

    def __init__(self, combiner: Any) -> None:
        super().__init__()
        self.model = TwoHeads()
        self.weave = Weave(self.model, combiner, TERMS)  # lossweave
        self.learned: list[int] = []

    def training_step(self, batch: Any, index: int) -> Tensor:
        return self.weave(self.model(batch))  # lossweave, in place of sum(losses.values())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.weave.step()  # lossweave
        self.learned.append(self.weave.updates)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.005)


class Batches(torch.utils.data.Dataset):
    """Six batches that follow from their numbers."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        return batch_of(index)


def _fit(
    folder: Path, combiner: Any, epochs: int, resume: str | None = None, **more: Any
) -> Module:
    module = Module(combiner)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=str(folder),
        enable_checkpointing=False, **more,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(Batches(), batch_size=None)
    trainer.fit(module, loader, ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return module


def test_the_sum_is_the_sum(tmp_path: Path) -> None:
    module, plain = _fit(tmp_path, "Sum", 1), TwoHeads()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.005)
    for index in range(6):
        sum(plain(batch_of(index)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    for key, value in plain.state_dict().items():
        assert torch.equal(module.model.state_dict()[key], value)


@pytest.mark.parametrize("combiner", [{"type": "UncertaintyWeighting", "lr": 0.1}, "PCGrad"])
def test_it_goes_on_from_lightnings_checkpoint(tmp_path: Path, combiner: Any) -> None:
    straight = _fit(tmp_path / "straight", combiner, 2)
    _fit(tmp_path, combiner, 1)
    resumed = _fit(tmp_path, combiner, 2, resume=str(tmp_path / "1.ckpt"))
    assert resumed.learned == list(range(7, 13)) and straight.learned == list(range(1, 13))
    ours, theirs = resumed.state_dict(), straight.state_dict()
    assert any(key.startswith("weave.combination") for key in theirs) or combiner == "PCGrad"
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_an_accumulated_update_counts_once(tmp_path: Path) -> None:
    module = _fit(tmp_path, "UncertaintyWeighting", 1, accumulate_grad_batches=2)
    assert module.learned == [1, 2, 3]
