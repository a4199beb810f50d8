"""The guide by error line: every line that it quotes is one that the code can say."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import lossweave

PACKAGE = Path(lossweave.__file__).parent
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "troubleshooting.md"
#: Lines of others: MMEngine's own, and values that stand for the user's.
FOREIGN = ("model registry", "loss_cls is nan")


@cache
def said() -> str:
    """Every string of the package's code; what is put into a string at run time is a gap."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def quoted() -> list[str]:
    rows = re.findall(r"^\| (`.*?) \| ", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    lines = [line for row in rows for line in re.findall(r"`([^`]+)`", row)]
    return [line for line in lines if not any(words in line for words in FOREIGN)]


def test_the_guide_quotes_many() -> None:
    assert len(quoted()) > 40


@pytest.mark.parametrize("line", quoted())
def test_the_code_says_it(line: str) -> None:
    for part in filter(None, (part.strip(" ;:") for part in line.split("…"))):
        assert part in said(), part
