"""Blocks of a page: what stands between their lines changes, nothing else does."""

from pathlib import Path

from lossweave.studies.report.blocks import has_block, write_block

PAGE = """before

<!-- scores, by make results -->
old
<!-- end of scores -->

after <!-- other, by make results -->
<!-- end of other -->
"""


def test_a_block_is_written_and_written_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert write_block(page, "scores", "new")
    text = page.read_text()
    assert text == PAGE.replace("old", "\nnew\n")
    assert write_block(page, "scores", "new") and page.read_text() == text


def test_a_page_without_the_block_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert not write_block(page, "scores", "new") and not page.exists()
    for text in ("", "<!-- scores, by make results -->", "<!-- end of scores -->" + PAGE[:50]):
        page.write_text(text)
        assert not has_block(page, "scores")
        assert not write_block(page, "scores", "new") and page.read_text() == text
