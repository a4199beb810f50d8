"""Where configs are found, by the names that people type."""

import importlib.util
from difflib import get_close_matches
from pathlib import Path

from lossweave.errors import LossweaveError

__all__ = ["config_root", "in_model_zoo", "resolve_config", "tools_root"]

_ZOO = "detectron2://"


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
    """The path of a config: a path as it is, or one of those that a package ships.

    These are ``package::path``, and ``detectron2://path`` for Detectron2's model zoo, whose
    names are also known as they are.

    Raises:
        LossweaveError: there is no such file; the message lists near names.

    Example:
        >>> resolve_config("nowhere.py")
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: there is no config 'nowhere.py'
    """
    if name.startswith(_ZOO):
        return str(_among(name, _zoo_root(), _ZOO))
    if "::" in name:
        package = name.partition("::")[0]
        return str(_among(name, config_root(package), f"{package}::"))
    if Path(name).is_file():
        return name
    if in_model_zoo(name):
        return str(_zoo_root() / name)
    raise LossweaveError(f"there is no config {name!r}")


def in_model_zoo(name: str) -> bool:
    """Whether Detectron2's model zoo has a config of that name."""
    try:
        return (_zoo_root() / name).is_file()
    except LossweaveError:
        return False


def _zoo_root() -> Path:
    """The folder of the configs in Detectron2's model zoo."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        raise LossweaveError(
            "detectron2 is not installed; tools/install_detectron2.py --help says how"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model_zoo" / "configs"


def _among(name: str, root: Path, prefix: str) -> Path:
    relative = name.removeprefix(prefix)
    path = root / relative
    if not path.is_file():
        files = (p for p in root.rglob("*") if p.suffix in (".py", ".yaml"))
        near = get_close_matches(relative, [str(p.relative_to(root)) for p in files], n=3)
        hint = "; did you mean " + " or ".join(prefix + n for n in near) if near else ""
        raise LossweaveError(f"there is no config {name!r}{hint}")
    return path


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
