"""What MkDocs does for this site beside its plugins; mkdocs.yml names it.

Files from outside of docs/ become pages, links to others become plain text, every combiner's page
takes its class from the code, and formulas become MathML, which browsers show without a script.
"""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
import make
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: Files of the repository that are pages of the site, and where.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "projects/own_combiner/README.md": "projects/own_combiner.md",
    "projects/own_combiner": "projects/own_combiner.md",
}
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_BLOCK = re.compile(r"<!-- made by `make docs`: docstring -->.*?<!-- end -->", re.DOTALL)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_config(config: Any) -> Any:
    """In the navigation, the combiners that the registry has, and reports that nobody listed."""
    pages: dict[str, list[Any]] = {kind: [] for kind in make.FAMILIES}
    for name in make.names():
        pages[make.kind_of(name)].append({name: f"combiners/{name}.md"})
    families = [{make.FAMILIES[kind][0]: found} for kind, found in pages.items()]
    parts = {title: part for entry in config.nav for title, part in entry.items()}
    parts["Combiners"] = ["combiners/README.md", *families]
    listed = str(parts["Results"])
    for report in sorted((ROOT / "docs" / "results").glob("*/*.md")):
        uri = report.relative_to(ROOT / "docs").as_posix()
        if uri not in listed:
            parts["Results"].append({report.parent.name.replace("_", " ").capitalize(): uri})
    config.nav = [{title: part} for title, part in parts.items()]
    return config


def on_files(files: Files, config: Any) -> Files:
    for source, target in PAGES.items():
        if target != "index.md" and (ROOT / source).is_file():
            files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    uri = page.file.src_uri
    source = {target: name for name, target in PAGES.items() if name.endswith(".md")}
    at = posixpath.dirname(source.get(uri, f"docs/{uri}") if uri != "index.md" else "docs/index.md")
    name = Path(uri).stem
    if uri.startswith("combiners/") and name in make.names():
        cls = make.combiner_class(name)
        shown = f"::: {cls.__module__}.{name}\n    options:\n      members: []\n"
        markdown = _BLOCK.sub(lambda _: shown, markdown)
    return _LINK.sub(lambda found: _link(found, at, posixpath.dirname(uri)), markdown)


def _link(found: re.Match[str], at: str, here: str) -> str:
    """A link to a file of the repository as one to a page, or as its words alone.

    Args:
        found: the link.
        at: the folder of the file that it stands in.
        here: the folder of its page.
    """
    words, target, anchor = found.group(1), found.group(2), found.group(3) or ""
    if "://" in target or target.startswith("mailto:"):
        return found.group(0)
    path = posixpath.normpath(posixpath.join(at, target))
    if path.startswith("docs/"):
        return f"[{words}]({posixpath.relpath(path[5:], here or '.')}{anchor})"
    if path in PAGES:
        return f"[{words}]({posixpath.relpath(PAGES[path], here or '.')}{anchor})"
    return words if "`" in words else f"`{words}`" if words == path else f"{words} (`{path}`)"


def on_page_content(content: str, **_: Any) -> str:
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    text = html.unescape(found.group(2)).strip()
    display = "block" if text.startswith(r"\[") else "inline"
    return latex2mathml.converter.convert(text[2:-2].strip(), display=display)
