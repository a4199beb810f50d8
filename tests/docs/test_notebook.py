"""The notebook runs from its first cell to its last, on a few pictures."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytest.importorskip("mmdet")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "stock_to_diagnosis.ipynb"


def test_from_a_stock_config_to_a_diagnosis(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "it is kept without its outputs"
    assert code[0].source.startswith("FAST = False")
    code[0].source = "FAST = True"
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=where).execute()

    values = [one.data for cell in code for one in cell.outputs if "data" in one]
    words = "\n".join(data.get("text/plain", "") for data in values)
    for name in ("CombinedRetinaNet", "term_cls", "weight_loc", "grad_norm_cls"):
        assert name in words
    assert sum("image/png" in data for data in values) == 2
    (diagnosis,) = (data["text/markdown"] for data in values if "text/markdown" in data)
    assert "cls" in diagnosis and "loc" in diagnosis
    assert (tmp_path / "work_dirs" / "notebook" / "diagnosis" / "diagnosis.json").is_file()
