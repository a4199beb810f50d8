"""Any training loop: three lines change, and the rest stays as it is."""

import copy
import gc
import io
import pickle
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.torch_loop_toy import TERMS, Loop, TwoHeads, batch_of, gradients
from torch import Tensor, nn
from torchjd import aggregation

from lossweave.combiners import combiner_names
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.torch_loop import Weave

#: Arguments that make state move within a few updates.
MOVING: dict[str, dict[str, Any]] = {
    "DWA": {"period": 1},
    "UncertaintyWeighting": {"lr": 0.1},
    "IMTLL": {"lr": 0.1},
    "FAMO": {"lr": 0.1},
    "GradNorm": {"lr": 0.1},
    "AutoLoss": {"lr": 0.1, "episode": 2},
    "MagnitudeMatched": {"updates": 3},
}


def _config(name: str) -> dict[str, Any]:
    return {"type": name, **MOVING.get(name, {})}


def _rows(model: nn.Module, batch: Any) -> list[dict[str, Tensor]]:
    """Each loss's gradient by itself."""
    named = list(model.named_parameters())
    found = []
    for loss in model(batch).values():
        inputs = [parameter for _, parameter in named]
        grads = torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)
        found.append({
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(named, grads, strict=True)
        })
    return found


def test_the_sum_is_the_sum_to_the_last_bit() -> None:
    plain, ours = TwoHeads(), TwoHeads()
    losses = plain(batch_of(1))
    total = sum(losses.values())
    total.backward()
    weave = Weave(ours, "Sum")
    loss = weave(ours(batch_of(1)))
    loss.backward()
    assert torch.equal(loss, total)
    for name, grad in gradients(plain).items():
        assert torch.equal(grad, gradients(ours)[name])


@pytest.mark.parametrize(
    ("combiner", "weights"),
    [
        ({"type": "Sum", "weights": [2, 0.5]}, lambda a, b: (2, 0.5)),
        ("Product", lambda a, b: (b, a)),
        ("Max", lambda a, b: (float(a > b), float(b > a))),
        ("SquaredSum", lambda a, b: (2 * (a + b), 2 * (a + b))),
        ("UncertaintyWeighting", lambda a, b: (0.5, 0.5)),
    ],
)
def test_a_method_of_values_against_plain_autograd(combiner: Any, weights: Any) -> None:
    plain, ours = TwoHeads(), TwoHeads()
    losses = plain(batch_of(1))
    chosen = weights(*(float(loss) for loss in losses.values()))
    rows = _rows(plain, batch_of(1))
    Weave(ours, combiner, TERMS)(ours(batch_of(1))).backward()
    for name, grad in gradients(ours).items():
        expected = sum(w * row[name] for w, row in zip(chosen, rows, strict=True))
        torch.testing.assert_close(grad, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["MGDA", "UPGrad", "AlignedMTL", "PCGrad"])
@pytest.mark.parametrize("boundary", ["parameters", "features", ["backbone"], "representation"])
def test_a_method_of_gradients_against_plain_autograd(name: str, boundary: Any) -> None:
    plain, ours = TwoHeads(), TwoHeads()
    batch = batch_of(3)
    features = plain.backbone(batch[0])
    losses = [
        nn.functional.cross_entropy(plain.cls(features), batch[1]),
        5 * nn.functional.mse_loss(plain.box(features), batch[2]),
    ]
    shared = list(plain.backbone.parameters()) if boundary == "parameters" else [features]
    rows = torch.stack([
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
        for loss in losses
    ])
    combined = getattr(aggregation, name)()(rows / rows.norm()) * rows.norm()
    expected: dict[str, Tensor] = {}
    if boundary == "parameters":
        at = 0
        for key, parameter in plain.backbone.named_parameters():
            expected[f"backbone.{key}"] = combined[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
    else:
        features.backward(combined.view_as(features))
        expected = {f"backbone.{k}": p.grad for k, p in plain.backbone.named_parameters()}

    weave = Weave(ours, {"type": name, "boundary": boundary}, TERMS)
    weave(ours(batch)).backward()
    found = gradients(ours)
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, rtol=1e-5, atol=1e-8)
    for key, row in _rows(TwoHeads(), batch)[0].items():
        if key.startswith("cls."):  # what only one term reaches keeps its gradient
            torch.testing.assert_close(found[key], row, rtol=1e-10, atol=1e-12)


def test_two_forwards_before_their_losses_are_combined() -> None:
    found = []
    for together in (False, True):
        model = TwoHeads()
        weave = Weave(model, {"type": "PCGrad", "boundary": "features"}, TERMS)
        if together:
            losses = [model(batch_of(seed)) for seed in (1, 2)]
            (weave(losses[0]) + weave(losses[1])).backward()
        else:
            for seed in (1, 2):
                weave(model(batch_of(seed))).backward()
        found.append(gradients(model))
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=1e-5, atol=1e-8)


def test_an_update_of_several_batches_learns_once_from_their_mean() -> None:
    loop = Loop({"type": "UncertaintyWeighting", "lr": 0.1})
    means = {
        name: torch.stack([TwoHeads()(batch_of(seed))[name].detach() for seed in (10, 11)]).mean()
        for name in ("loss_cls", "loss_box")
    }
    loop.update(1, parts=2)
    once = Weave(TwoHeads(), {"type": "UncertaintyWeighting", "lr": 0.1}, TERMS)
    once({name: mean.requires_grad_() for name, mean in means.items()}).backward()
    once.step()
    ours, theirs = loop.weave.state_dict(), once.state_dict()
    assert ours["updates_done"] == theirs["updates_done"] == 1
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value)
    assert loop.weave.combination.combiner.get_buffer("log_var").any()


@pytest.mark.parametrize("name", combiner_names())
def test_what_is_resumed_ends_bit_identical(name: str) -> None:
    straight, begun = Loop(_config(name), True), Loop(_config(name), True)
    for seed in range(3):
        straight.update(seed)
        begun.update(seed)
    file = io.BytesIO()
    torch.save(begun.state(), file)
    file.seek(0)
    resumed = Loop(_config(name), True)
    resumed.load(torch.load(file, weights_only=True))
    assert resumed.weave.updates == 3
    for seed in range(3, 7):
        ours, theirs = resumed.update(seed), straight.update(seed)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    for part in ("model", "weave"):
        ours, theirs = resumed.state()[part], straight.state()[part]
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.skipif(
    not hasattr(torch.amp, "GradScaler"), reason="torch scales losses on the CPU from 2.3 on"
)
@pytest.mark.parametrize("name", ["Sum", "UncertaintyWeighting", "PCGrad"])
def test_a_loss_scaler_scales_the_gradients_and_nothing_else(name: str) -> None:
    plain, scaled = Loop(name), Loop(name)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(3):
        plain.update(seed)
        scaler.scale(scaled.weave(scaled.model(batch_of(10 * seed)))).backward()
        scaler.step(scaled.optimizer)
        scaler.update()
        scaled.optimizer.zero_grad()
        scaled.weave.step()
    for (key, ours), theirs in zip(
        scaled.model.state_dict().items(), plain.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=key)


def test_an_update_that_is_not_finite_is_left_out() -> None:
    loop = Loop("UncertaintyWeighting", True, on_nonfinite="skip")
    loop.update(0)
    before = copy.deepcopy(loop.state())
    losses = loop.model(batch_of(1))
    loop.weave({"loss_cls": losses["loss_cls"] * float("nan"), "loss_box": losses["loss_box"]}
               ).backward()
    loop.optimizer.step()
    assert loop.weave.skipping
    loop.weave.step()
    loop.optimizer.zero_grad()
    after = loop.state()
    for key, value in before["model"].items():
        assert torch.equal(after["model"][key], value)
    for key, value in before["weave"].items():
        assert key == "updates_done" or torch.equal(after["weave"][key], value), key
    assert not Loop("Max").weave.skipping
    loop.update(2)
    assert not loop.weave.skipping


def test_several_optimizers_leave_the_same_updates_out() -> None:
    model = TwoHeads()
    parts = [model.backbone.parameters(), [*model.cls.parameters(), *model.box.parameters()]]
    optimizers = [torch.optim.SGD(part, lr=0.1, momentum=0.9) for part in parts]
    weave = Weave(model, "Max", TERMS, optimizer=optimizers, on_nonfinite="skip")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for scale in (float("inf"), 1.0):
        losses = {name: loss * scale for name, loss in model(batch_of(0)).items()}
        weave(losses).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        weave.step()
        moved = [k for k, value in model.state_dict().items() if not torch.equal(value, before[k])]
        assert bool(moved) is (scale == 1.0)


def test_terms_take_turns() -> None:
    loop = Loop({"type": "Alternating", "inactive": "hold"}, True)
    first, second = loop.update(0), loop.update(1)
    assert "cls.weight" in first and "box.weight" not in first
    assert loop.weave.updates == 2
    assert "box.weight" in second


def test_losses_are_measured_again_where_a_combiner_asks() -> None:
    loop = Loop({"type": "FAMO", "recompute": True}, True)
    loop.weave(loop.model(batch_of(0))).backward()
    loop.optimizer.step()
    with pytest.raises(LossweaveError, match=r"measured anew: weave\.step\(again=\.\.\.\)"):
        loop.weave.step()
    loop.weave.step(again=lambda: loop.model(batch_of(0)))
    assert any(value.any() for key, value in loop.weave.state_dict().items() if "logits" in key)


def test_what_is_logged() -> None:
    loop = Loop({"type": "Sum", "weights": [1, 3]})
    losses = loop.model(batch_of(0))
    loop.weave(losses).backward()
    assert loop.weave.logged() == {
        "term_cls": pytest.approx(losses["loss_cls"].item()), "weight_cls": 1.0,
        "term_box": pytest.approx(losses["loss_box"].item()), "weight_box": 3.0,
    }  # fmt: skip


def test_a_term_that_is_not_finite_ends_the_run_at_the_log() -> None:
    loop = Loop("Max")
    loop.weave({"loss_cls": torch.tensor(float("nan"), requires_grad=True),
                "loss_box": torch.tensor(1.0, requires_grad=True)}).backward()
    with pytest.raises(NonFiniteLossError, match=r"update 0: term_cls is nan; .*learning rate"):
        loop.weave.logged()


def test_each_loss_is_a_term_where_the_names_say_no_more_and_it_is_resumed_so() -> None:
    said: list[str] = []
    weave = Weave(TwoHeads(), "UncertaintyWeighting", log=said.append)
    weave(TwoHeads()(batch_of(0))).backward()
    weave.step()
    assert weave.combination.names == ("cls", "loc")
    other = Weave(TwoHeads(), "UncertaintyWeighting", log=said.append)
    a, b, c = (torch.tensor(x, requires_grad=True) for x in (1.0, 2.0, 3.0))
    other({"heat": a, "size": b, "shift": c}).backward()
    other.step()
    assert other.combination.names == ("heat", "size", "shift")
    again = Weave(TwoHeads(), "UncertaintyWeighting")
    again.load_state_dict(other.state_dict())
    assert again.combination.names == ("heat", "size", "shift") and again.updates == 1


def test_the_model_is_no_part_of_the_state() -> None:
    loop = Loop("UncertaintyWeighting", True)
    assert not any("backbone" in key for key in loop.weave.state_dict())
    assert list(loop.weave.parameters()) == []


@pytest.mark.parametrize("boundary", ["features", ["backbone"], "representation"])
def test_copies_of_the_model_and_evaluations_leave_the_boundary_alone(boundary: Any) -> None:
    combiner = {"type": "UPGrad", "boundary": boundary}
    plain, disturbed = Loop(combiner), Loop(combiner)
    for seed in range(3):
        theirs = plain.update(seed)
        losses = disturbed.model(batch_of(10 * seed))
        for copied in (copy.deepcopy(disturbed.model), pickle.loads(pickle.dumps(plain.model))):
            copied(batch_of(99))
            with torch.no_grad():
                copied(batch_of(98))
        disturbed.weave(losses).backward()
        ours = gradients(disturbed.model)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        disturbed.optimizer.step()
        disturbed.optimizer.zero_grad()
        disturbed.weave.step()


def test_a_forward_that_fails_is_not_watched_for_ever() -> None:
    loop = Loop({"type": "UPGrad", "boundary": "features"})
    with pytest.raises(RuntimeError):
        loop.model((torch.ones(4, 5).double(), *batch_of(0)[1:]))
    expected = Loop({"type": "UPGrad", "boundary": "features"}).update(0)
    found = loop.update(0)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def _hooks(*on: Any) -> list[int]:
    """How many hooks there are on modules and optimizers."""
    names = ("_forward_pre_hooks", "_forward_hooks", "_optimizer_step_pre_hooks")
    return [len(getattr(one, name, ())) for one in on for name in names]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"combiner": {"type": "MGDA", "boundary": ["neck"]}}, "no module matches 'neck'"),
        ({"combiner": {"type": "MGDA", "boundary": "features"}, "optimizer": "late"}, "late"),
    ],
)
def test_one_that_fails_leaves_no_hook(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TwoHeads()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = _hooks(model, model.backbone, optimizer)
    if arguments.get("optimizer") == "late":  # the last thing that can fail does
        monkeypatch.setattr(Weave, "_begin", lambda self: (_ for _ in ()).throw(ValueError("late")))
    with pytest.raises((LossweaveError, ValueError), match=message):
        Weave(model, **{**arguments, "optimizer": optimizer})
    assert _hooks(model, model.backbone, optimizer) == before


@pytest.mark.parametrize("boundary", ["features", ["backbone"]])
def test_one_that_is_gone_leaves_no_hook(boundary: Any) -> None:
    model = TwoHeads()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = _hooks(model, model.backbone, optimizer)
    weave = Weave(model, {"type": "MGDA", "boundary": boundary}, TERMS, optimizer)
    weave(model(batch_of(0))).backward()
    assert _hooks(model, model.backbone, optimizer) != before
    copied = copy.deepcopy(model)
    del weave
    gc.collect()
    assert _hooks(model, model.backbone, optimizer) == before
    assert all(not loss.isnan() for loss in copied(batch_of(0)).values())


def test_a_model_that_holds_its_own_is_freed_with_it() -> None:
    model = TwoHeads()
    model.weave = Weave(model, {"type": "MGDA", "boundary": "features"}, TERMS)
    model.weave(model(batch_of(0))).backward()
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_pair_that_is_copied_goes_on_together() -> None:
    model = TwoHeads()
    pair = model, Weave(model, {"type": "MGDA", "boundary": "features"}, TERMS)
    model, weave = copy.deepcopy(pair)
    weave(model(batch_of(0))).backward()
    expected = Loop({"type": "MGDA", "boundary": "features"}).update(0)
    assert all(torch.equal(gradients(model)[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "net"}, "Weave takes a model, but got str"),
        ({"optimizer": "sgd"}, "optimizer='sgd' should be torch's, or several"),
        ({"combiner": "Summ"}, "Summ"),
        ({"terms": "tasks"}, "terms='tasks' should be 'task'"),
        ({"max_updates": 0}, "max_updates=0 should be a whole number above 0"),
        ({"updates_per_epoch": 2.5}, r"updates_per_epoch=2\.5 should be a whole number above 0"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite='ignore' should be one of raise, skip"),
        ({"model": nn.Linear(2, 2), "combiner": {"type": "MGDA", "boundary": "features"}},
         r"Linear has no backbone .*boundary=\['NAME'\]"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        Weave(**{"model": TwoHeads(), **arguments})


@pytest.mark.parametrize(
    ("combiner", "options"),
    [({"type": "Alternating", "inactive": "hold"}, {}), ("Max", {"on_nonfinite": "skip"})],
)
def test_what_needs_the_optimizer_says_so(combiner: Any, options: dict[str, Any]) -> None:
    loop = Loop(combiner, **options)
    with pytest.raises(LossweaveError, match=r"add the optimizer: Weave\(model, .*optimizer="):
        loop.update(0)


@pytest.mark.parametrize("losses", [torch.ones(()), [torch.ones(())], None])
def test_what_is_no_dictionary_of_losses(losses: Any) -> None:
    with pytest.raises(LossweaveError, match="weave takes a dictionary of losses, but got"):
        Weave(TwoHeads())(losses)


def test_no_losses_at_all() -> None:
    with pytest.raises(LossweaveError, match="loss"):
        Weave(TwoHeads(), "Max")({})


def test_the_ten_lines_of_the_documentation() -> None:
    page = Path(__file__).parents[2] / "docs" / "torch_loop.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (lines,) = [block for block in blocks if block.startswith("trunk, cls, box")]
    assert len(lines.splitlines()) <= 10
    batch = torch.randn(4, 8), torch.tensor([0, 1, 2, 0]), torch.rand(4, 4)
    names = {"torch": torch, "nn": nn, "F": nn.functional, "Weave": Weave, "loader": [batch] * 3}
    exec(lines, names)
    assert names["weave"].updates == 3
    assert names["weave"].combination.names == ("cls", "box")
