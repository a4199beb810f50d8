"""Where configs are found, by the names that people type."""

import importlib.util
from difflib import get_close_matches
from pathlib import Path

from lossweave.errors import LossweaveError

__all__ = ["config_root", "resolve_config", "tools_root"]


def config_root(package: str) -> Path:
    """The folder of configs that an installed package ships.

    Raises:
        LossweaveError: the package is not installed, or ships none.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LossweaveError(f"the package {package!r} is not installed")
    home = Path(next(iter(spec.submodule_search_locations)))
    # An installed package has them in .mim, a checkout at its top.
    for root in (home / ".mim" / "configs", home.parent / "configs", home.parents[1] / "configs"):
        if root.is_dir():
            return root
    raise LossweaveError(f"the package {package!r} ships no configs")


def resolve_config(name: str) -> str:
    """The path of a config: a path as it is, or ``package::path`` among the package's configs.

    Raises:
        LossweaveError: there is no such file; the message lists near names.

    Example:
        >>> resolve_config("nowhere.py")
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: there is no config 'nowhere.py'
    """
    if "::" not in name:
        if not Path(name).is_file():
            raise LossweaveError(f"there is no config {name!r}")
        return name
    package, _, relative = name.partition("::")
    root = config_root(package)
    path = root / relative
    if not path.is_file():
        known = [str(p.relative_to(root)) for p in root.rglob("*.py")]
        near = get_close_matches(relative, known, n=3)
        hint = "; did you mean " + " or ".join(f"{package}::{n}" for n in near) if near else ""
        raise LossweaveError(f"there is no config {name!r}{hint}")
    return str(path)


def tools_root() -> Path:
    """The folder of lossweave's own tools, in an installed package or a checkout.

    Raises:
        LossweaveError: they are in neither place.
    """
    home = Path(__file__).parent
    for root in (home / ".mim" / "tools", home.parents[1] / "tools"):
        if root.is_dir():
            return root
    raise LossweaveError("lossweave's tools are missing from this installation")
