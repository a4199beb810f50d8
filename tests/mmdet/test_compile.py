"""MMEngine's ``compile`` field: the model is compiled, what combines its losses is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_detector import tiny_batch, tiny_config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from lossweave.errors import LossweaveError

#: What asks which parameters a loss reaches.
REFUSED = [
    {"type": "PCGrad", "boundary": "features"},
    {"type": "MGDA", "boundary": "parameters"},
    {"type": "Alternating"},
]


class Batches(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, at: int) -> dict[str, Any]:
        return tiny_batch(at)


def _runner(combiner: Any, work_dir: Path, **options: Any) -> Runner:
    """Of three iterations."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    loader = dict(
        dataset=Batches(), batch_size=1, sampler=dict(type="InfiniteSampler", shuffle=False),
        collate_fn=lambda batch: batch[0],
    )  # fmt: skip
    return Runner(
        tiny_config(combiner), str(work_dir), loader,
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=3), default_scope="mmdet",
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)), log_level="ERROR",
        default_hooks=dict(lossweave=dict(type="lossweave.CombinerHook")),
        experiment_name=work_dir.name, cfg=options,
    )  # fmt: skip


def _train(combiner: Any, work_dir: Path, **options: Any) -> dict[str, torch.Tensor]:
    """The weights after three iterations."""
    runner = _runner(combiner, work_dir, **options)
    runner.train()
    return {name: value.detach().clone() for name, value in runner.model.named_parameters()}


@pytest.mark.parametrize("combiner", ["Sum", "UncertaintyWeighting"])
def test_the_weights_are_those_of_the_model_as_it_is(combiner: Any, tmp_path: Path) -> None:
    torch._dynamo.reset()
    plain = _train(combiner, tmp_path / "plain")
    compiled = _train(combiner, tmp_path / "compiled", compile=dict(backend="aot_eager"))
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("combiner", REFUSED, ids=str)
def test_what_a_compiled_graph_hides_is_refused(combiner: Any, tmp_path: Path) -> None:
    runner = _runner(combiner, tmp_path / "run", compile=dict(backend="aot_eager"))
    with pytest.raises(LossweaveError, match=r"compile: .* take compile out") as error:
        runner.train()
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks
    assert combiner["type"] in str(error.value) and "\n" not in str(error.value)
