"""What older versions of torch lack."""

import ast
import re
from pathlib import Path

import pytest
import torch

import lossweave
from lossweave.utils import torch_compat


def test_edges_are_taken_from_torch_2_6_on() -> None:
    version = torch.torch_version.TorchVersion(torch.__version__)
    if version < (2, 2) or version >= (2, 6):  # between, some of it is there
        assert torch_compat.takes_edges() == (version >= (2, 6))
    if torch_compat.takes_edges():
        x = torch.ones(2, requires_grad=True)
        y = 2 * x
        edge = torch_compat.edge_of(y.grad_fn, 0)
        found = torch.autograd.grad([edge], [x], [torch.ones(2)])
        assert found[0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("2.11.0+cu130", "pip install 'torchjd[cagrad]==0.18.*'"),
        ("2.3.0", "pip install 'torchjd[cagrad]==0.18.*'"),
        (
            "2.1.2+cu121",
            "pip install 'lossweave[solvers-classic]' && pip install --no-deps 'torchjd==0.18.*'",
        ),
    ],
)
def test_the_line_to_type_for_torchjd(
    version: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_compat.torch, "__version__", version)
    assert torch_compat.torchjd_line("[cagrad]") == line


def test_nothing_else_asks_for_versions_of_torch() -> None:
    package = Path(lossweave.__file__).parent
    asking = []
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Compare | ast.Call) else ""
            if isinstance(node, ast.Compare) and "torch.__version__" in text:
                asking.append(file.name)
            if re.match(r"(hasattr|getattr)\(torch[\w.]*, '", text):  # a name it may not have
                asking.append(file.name)
    assert asking == ["torch_compat.py"]
