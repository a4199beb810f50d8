"""--exact-resume under MMDetection refuses in one line, before training, what it cannot make so."""

from pathlib import Path
from typing import Any

import pytest
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from lossweave.cli import main
from lossweave.errors import LossweaveError

MOSAIC = dict(type="CachedMosaic", img_scale=(64, 64), max_cached_images=4, pad_val=114.0)
RESIZE = dict(type="BatchSyncRandomResize", random_size_range=(64, 96), interval=2)


@DATA_SAMPLERS.register_module(force=True)
class OfItsOwnKind(DefaultSampler):
    """The order of its indices is its own affair."""


def _config(make_config, path: Path, change: Any, **more: Any) -> str:
    cfg = make_config("retinanet", iterations=1, seeded=False, **more)
    change(cfg)
    cfg.pop("work_dir")
    cfg.dump(path)
    return str(path)


def _mosaic(cfg: Any) -> None:
    cfg.train_dataloader.dataset.pipeline.insert(2, MOSAIC)


def _nested(cfg: Any) -> None:
    inner = [dict(type="RandomApply", transforms=[MOSAIC], prob=0.5)]
    cfg.train_dataloader.dataset.pipeline[2:2] = inner
    stock = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=stock)


def _sampler(cfg: Any) -> None:
    cfg.train_dataloader.sampler = dict(type="mmdet.OfItsOwnKind")


def _sizes(cfg: Any) -> None:
    cfg.model.data_preprocessor.batch_augments = [RESIZE]


@pytest.mark.parametrize("by_epoch", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_mosaic, "CachedMosaic keeps `results_cache` from one sample to the next"),
        (_nested, "CachedMosaic keeps `results_cache`"),
        (_sampler, "does not know the sampler OfItsOwnKind"),
        (_sizes, "BatchSyncRandomResize keeps `_input_size`"),
    ],
)
def test_what_cannot_be_made_exact(
    make_config, tmp_path: Path, monkeypatch, change: Any, message: str, by_epoch: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    config = _config(make_config, tmp_path / "toy.py", change, by_epoch=by_epoch)
    with pytest.raises(LossweaveError, match=message) as caught:
        main.train([config, "--exact-resume"])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.pth"))


def test_a_training_loop_of_its_own_kind(make_config, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def change(cfg: Any) -> None:
        cfg.train_cfg = dict(type="mmdet.TeacherStudentLoop", max_iters=1)

    config = _config(make_config, tmp_path / "toy.py", change)
    with pytest.raises(LossweaveError, match="no counterpart of the training loop 'TeacherStud"):
        main.train([config, "--exact-resume"])
