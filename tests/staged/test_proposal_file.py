"""The proposal file: compact, whole or not there, and bound to what made it."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lossweave.errors import LossweaveError
from lossweave.staged import proposal_writer
from lossweave.staged.proposal_file import ProposalFile, checksum_of, fingerprint
from lossweave.staged.proposal_writer import PassWriters, ProposalWriter


def _fill(writer: ProposalWriter, images: int = 3, order: int = 1) -> ProposalWriter:
    for image in list(range(images))[::order]:
        rng = np.random.default_rng(image)
        writer.add(str(image), rng.random((image * 2, 4)) * 100, rng.random(image * 2))
    return writer


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    _fill(ProposalWriter(tmp_path / "p.npz", "key", dict(nms=0.7))).close()
    found = ProposalFile(tmp_path / "p.npz", "key")
    assert list(found) == ["0", "1", "2"] and "1" in found and len(found) == 3
    assert found.per_image == 2 and found.settings == dict(nms=0.7)
    for image in range(3):
        rng = np.random.default_rng(image)
        boxes, scores = found[str(image)]
        assert boxes.dtype == scores.dtype == np.float32 and boxes.shape == (2 * image, 4)
        assert np.array_equal(boxes, (rng.random((image * 2, 4)) * 100).astype(np.float32))
        assert np.array_equal(scores, rng.random(image * 2).astype(np.float32))
    plain = np.load(tmp_path / "p.npz")  # any numpy reads it
    assert plain["boxes"].shape == (6, 4) and plain["ids"].tolist() == ["0", "1", "2"]


def test_the_checksum_is_of_the_content_alone(tmp_path: Path) -> None:
    one = _fill(ProposalWriter(tmp_path / "1.npz", "key")).close()
    assert one == _fill(ProposalWriter(tmp_path / "2.npz", "other"), order=-1).close()
    assert one != _fill(ProposalWriter(tmp_path / "3.npz", "key"), images=2).close()


def test_size(tmp_path: Path) -> None:
    writer = ProposalWriter(tmp_path / "p.npz", "key")
    for image in range(50):
        writer.add(str(image), np.zeros((200, 4)), np.zeros(200))
    writer.close()
    assert writer.path.stat().st_size < 50 * 200 * 20 * 1.05


def test_empty(tmp_path: Path) -> None:
    ProposalWriter(tmp_path / "none.npz", "key").close()
    assert len(ProposalFile(tmp_path / "none.npz")) == 0
    writer = ProposalWriter(tmp_path / "p.npz", "key")
    writer.add("a", np.zeros((0, 4)), np.zeros(0))
    writer.close()
    assert len(ProposalFile(tmp_path / "p.npz")["a"][0]) == 0


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_truncated(tmp_path: Path, keep: float) -> None:
    writer = _fill(ProposalWriter(tmp_path / "p.npz", "key"), images=9)
    writer.close()
    content = writer.path.read_bytes()
    writer.path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(LossweaveError, match=r"p\.npz is damaged"):
        ProposalFile(writer.path, "key")


def test_changed_bytes(tmp_path: Path) -> None:
    writer = _fill(ProposalWriter(tmp_path / "p.npz", "key"), images=9)
    writer.close()
    content = bytearray(writer.path.read_bytes())
    place = content.index(ProposalFile(writer.path)["5"][0].tobytes())
    content[place] ^= 1
    writer.path.write_bytes(bytes(content))
    with pytest.raises(LossweaveError, match="damaged"):
        ProposalFile(writer.path, "key")
    ProposalFile(writer.path, "key", verify=False)  # a worker's look trusts the main process


def test_stale_and_missing(tmp_path: Path) -> None:
    _fill(ProposalWriter(tmp_path / "p.npz", "key")).close()
    with pytest.raises(LossweaveError, match="stale: other weights or settings made it"):
        ProposalFile(tmp_path / "p.npz", "another")
    with pytest.raises(LossweaveError, match="no proposals for image '9'"):
        ProposalFile(tmp_path / "p.npz")["9"]
    with pytest.raises(LossweaveError, match="there is no proposal file"):
        ProposalFile(tmp_path / "q.npz")


def test_wrong_input(tmp_path: Path) -> None:
    writer = ProposalWriter(tmp_path / "p.npz", "key")
    with pytest.raises(LossweaveError, match="2 boxes and 1 scores"):
        writer.add("a", np.zeros((2, 4)), np.zeros(1))
    with pytest.raises(LossweaveError, match="not finite"):
        writer.add("a", np.full((1, 4), np.nan), np.zeros(1))


def test_an_interrupted_pass_goes_on(tmp_path: Path) -> None:
    whole = _fill(ProposalWriter(tmp_path / "whole.npz", "key"), images=5).close()
    first = _fill(ProposalWriter(tmp_path / "p.npz", "key"), images=3)
    first.seconds = 2.0
    first.keep()
    assert not first.path.exists()
    second = ProposalWriter(tmp_path / "p.npz", "key")
    assert second.take_up() == 3 and second.seconds == 2.0
    rest = _fill(ProposalWriter(tmp_path / "rest.npz", "key"), images=5)
    for image in ("3", "4"):
        second.add(image, *rest._found[image])
    assert second.close() == whole and not second.partial.exists()
    other = ProposalWriter(tmp_path / "q.npz", "other key")
    first.path = other.path
    first.keep()
    assert other.take_up() == 0


def _pass_over(writers: PassWriters, images: range, fail: bool = False) -> None:
    with writers:
        for image in images:
            rng = np.random.default_rng(image)
            boxes, scores = rng.random((4, 4)), rng.random(4)
            writers.check(str(image), f"{image}.jpg")
            writers.add(str(image), [(boxes, scores), (boxes[:2], scores[:2])])
            writers.keep_at_times()
        if fail:
            raise KeyboardInterrupt


def test_a_pass_leaves_what_it_has(tmp_path: Path, monkeypatch) -> None:
    """When it is interrupted, and at intervals; the next one takes up whole batches of it."""
    targets = {
        name: (tmp_path / f"{name}.npz", {"max_per_img": n}) for name, n in (("a", 4), ("b", 2))
    }
    with pytest.raises(KeyboardInterrupt):
        _pass_over(PassWriters(targets, "key"), range(5), fail=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.1of1.partial.npz", "b.1of1.partial.npz"
    ]  # fmt: skip
    left = ProposalFile(tmp_path / "a.1of1.partial.npz", "key").seconds
    again = PassWriters(targets, "key")
    assert again.take_up(batch_size=2) == 4
    _pass_over(again, range(4, 7))
    again.close()
    found = again.files()
    assert [len(found[name]) for name in targets] == [7, 7] and found["a"].seconds > left > 0
    assert len(found["a"]["6"][0]) == 4 and len(found["b"]["6"][0]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    monkeypatch.setattr(proposal_writer, "_KEEP_EVERY", 0.0)
    _pass_over(
        PassWriters({"c": (tmp_path / "c.npz", None), "d": (tmp_path / "d.npz", None)}, "k"),
        range(3),
    )
    assert len(ProposalFile(tmp_path / "d.1of1.partial.npz")) == 3


def test_an_id_of_two_images_is_refused(tmp_path: Path) -> None:
    writers = PassWriters({"a": (tmp_path / "a.npz", None)}, "key")
    writers.check("1", "one.jpg")
    writers.check("1", "one.jpg")
    with pytest.raises(LossweaveError, match=r"two images have the id '1': one\.jpg and two\.jpg"):
        writers.check("1", "two.jpg")


def test_failing_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    writer = _fill(ProposalWriter(tmp_path / "p.npz", "key"))
    writer.close()
    before = writer.path.read_bytes()

    def full(*args, **kwargs) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        _fill(ProposalWriter(tmp_path / "p.npz", "new")).close()
    assert writer.path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]


def test_fingerprints() -> None:
    weights, settings = {"w": torch.zeros(3), "v": torch.ones(1)}, {"nms": 0.7}
    same = fingerprint({"v": torch.ones(1), "w": torch.zeros(3)}, {"nms": 0.7})
    assert fingerprint(weights, settings) == same
    changed = {**weights, "v": torch.ones(1) + 1e-7}
    assert fingerprint(changed, settings) != same != fingerprint(weights, {"nms": 0.5})


# ------------------------------------------------------------------------------ made files


def _made(path: Path, header: Any = None, **arrays: Any) -> Path:
    """A file of our format with other arrays, and the checksum of those."""
    given: dict[str, Any] = dict(
        boxes=np.zeros((3, 4), "<f4"), scores=np.zeros(3, "<f4"),
        offsets=np.array([0, 1, 3], "<i8"), ids=np.array(["a", "b"])
    )  # fmt: skip
    given.update(arrays)
    told = dict(version=1, key="k", checksum=checksum_of(given), settings=None, seconds=0.0)
    text = json.dumps({**told, **(header or {})})
    np.savez(path, header=np.array(text), **given)
    return path


def test_the_made_file_is_right_where_nothing_is_wrong(tmp_path: Path) -> None:
    assert list(ProposalFile(_made(tmp_path / "p.npz"))) == ["a", "b"]


@pytest.mark.parametrize("name", ["boxes", "scores", "offsets", "ids"])
def test_objects_are_refused_before_anything_is_mapped(tmp_path: Path, name: str) -> None:
    """Eight bytes a number that a reader would follow as pointers."""
    path = _made(tmp_path / "p.npz")
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.namelist()}
    shape = (3, 4) if name == "boxes" else (3,)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, dict(descr="|O", fortran_order=False, shape=shape))
    members[f"{name}.npy"] = file.getvalue() + b"\x41" * 96
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    for verify in (True, False):
        with pytest.raises(LossweaveError, match=f"damaged .{name} has the type object"):
            ProposalFile(path, verify=verify)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(boxes=np.zeros((3, 4))), "boxes has the type float64"),
        (dict(boxes=np.zeros((3, 5), "<f4")), r"boxes has the shape \(3, 5\)"),
        (dict(boxes=np.zeros(12, "<f4")), r"boxes has the shape \(12,\)"),
        (dict(scores=np.zeros((3, 1), "<f4")), "scores has the shape"),
        (dict(scores=np.zeros(2, "<f4")), "lengths differ"),
        (dict(offsets=np.array([0, 1, 3], "<i4")), "offsets has the type int32"),
        (dict(offsets=np.array([0, 3], "<i8")), "lengths differ"),
        (dict(offsets=np.zeros(0, "<i8"), ids=np.zeros(0, "<U1")), "lengths differ"),
        (dict(offsets=np.array([1, 1, 3], "<i8")), "offsets do not lead"),
        (dict(offsets=np.array([0, 9, 3], "<i8")), "offsets do not lead"),
        (dict(offsets=np.array([0, -1, 3], "<i8")), "offsets do not lead"),
        (dict(ids=np.array([1, 2])), "ids has the type int64"),
        (dict(ids=np.array(["a", "a"])), "an image is there twice"),
        (dict(header=dict(seconds="long")), "header's seconds is 'long'"),
        (dict(header=dict(key=None)), "header's key is None"),
        (dict(header=dict(version="1")), "header's version is '1'"),
    ],
)
def test_what_no_writer_writes_is_refused(tmp_path: Path, arrays, message) -> None:
    path = _made(tmp_path / "p.npz", **arrays)
    for verify in (True, False):
        with pytest.raises(LossweaveError, match=message) as error:
            ProposalFile(path, verify=verify)
        assert "\n" not in str(error.value)
