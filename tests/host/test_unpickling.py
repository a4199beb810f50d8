"""Nothing that a checkpoint names is called before it is known to be harmless."""

import io
import os
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lossweave.errors import LossweaveError
from lossweave.host.unpickling import refuse_calls


class Call:
    """A call, when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def _saved(path: Path, **content: Any) -> Path:
    torch.save({"state_dict": {"w": torch.ones(3)}, **content}, path)
    return path


def test_what_trainings_keep_is_taken(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    refuse_calls(
        _saved(
            tmp_path / "a.pth",
            model=layer.state_dict(),
            optimizer=optimizer.state_dict(),
            parameter=layer.weight,
            half=torch.ones(2).half(),
            kind=torch.bfloat16,
            size=torch.ones(2, 3).shape,
            device=torch.device("cpu"),
            array=np.arange(3),
            scalar=np.float64(1.5),
            names=np.array(["a"]),
            counts=Counter("ab"),
            ordered=OrderedDict(a=1),
            default=defaultdict(list, a=[1]),
            queue=deque([1], 3),
            values={1, (2.5, None), "x", b"y", 1j},
            random=torch.get_rng_state(),
        )
    )


def test_mmengines_log_values_are_taken(tmp_path: Path) -> None:
    logging = pytest.importorskip("mmengine.logging")
    hub = logging.MessageHub.get_instance("unpickling")
    hub.update_scalar("train/loss", 0.5)
    hub.update_info("iter", 3)
    refuse_calls(_saved(tmp_path / "a.pth", message_hub=hub.state_dict()))


@pytest.mark.parametrize(
    "wrong",
    [
        Call(os.system, "touch touched"),
        Call(eval, "open('touched', 'w')"),
        Call(getattr, "x", "__class__"),
        Call(torch.load, "touched"),
        Call(np.load, "touched"),
        Call(exec, "pass"),
    ],
    ids=lambda call: call.function.__name__,
)
def test_calls_are_refused_and_not_made(tmp_path: Path, monkeypatch, wrong: Call) -> None:
    monkeypatch.chdir(tmp_path)
    path = _saved(tmp_path / "a.pth", meta=[wrong])
    with pytest.raises(LossweaveError, match=r"a\.pth asks for '.*' when it is read") as error:
        refuse_calls(path)
    assert "\n" not in str(error.value) and not Path("touched").exists()


def test_two_contents_and_other_formats_are_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.pth")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b/data.pkl", pickle.dumps(Call(os.system, "true"), 2))
    with pytest.raises(LossweaveError, match="more than one content"):
        refuse_calls(path)
    file = io.BytesIO()
    torch.save({"w": torch.ones(1)}, file, _use_new_zipfile_serialization=False)
    path.write_bytes(file.getvalue())
    with pytest.raises(LossweaveError, match="no checkpoint, or damaged"):
        refuse_calls(path)
