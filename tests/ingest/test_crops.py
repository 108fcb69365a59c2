"""Crops of boxes: the pixels that they were, the labels that they had, nothing half done."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import UserError
from medssl.ingest.crops import cut_crops, square

BOX = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "smears"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name in ("one", "two"):
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.png")
    found = BOX.format("RBC", 20, 10, 40, 30) + BOX.format("WBC", 50, 30, 64, 48) + BOX.format("RBC", 5, 5, 5, 9)
    (folder / "Annotations" / "one.xml").write_text(f"<annotation>{found}</annotation>")
    (folder / "Annotations" / "two.xml").write_text(f"<annotation>{BOX.format('RBC', 0, 0, 10, 10)}</annotation>")
    return folder


def test_each_box_becomes_a_square_of_the_photographs_own_pixels(source, tmp_path) -> None:
    done = cut_crops(source, tmp_path / "out", 16)
    assert done | {"folder": ""} == {
        "folder": "", "photographs": 2, "crops": 3, "left_out": 1, "labels": {"RBC": 2, "WBC": 1},
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out" / "labels.csv").open()))
    assert [(row["photograph"], row["label"]) for row in rows] == [("one", "RBC"), ("one", "WBC"), ("two", "RBC")]
    whole = np.asarray(Image.open(source / "JPEGImages" / "one.png"))
    crops = [np.asarray(Image.open(tmp_path / "out" / row["file"])) for row in rows]
    np.testing.assert_array_equal(crops[0], whole[12:28, 22:38])
    np.testing.assert_array_equal(crops[1], whole[31:47, 48:64])
    np.testing.assert_array_equal(crops[2], whole[:16, :16])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    cut_crops(source, tmp_path / "out", 16)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_square_never_leaves_the_photograph() -> None:
    for box in ((0, 0, 3, 3), (60, 44, 64, 48), (10, 10, 60, 40)):
        left, top, right, bottom = square(box, (64, 48), 32)
        assert left >= 0 and top >= 0 and right <= 64 and bottom <= 48 and right - left == bottom - top == 32


def test_what_cannot_be_cut_is_said_and_leaves_nothing(source, tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="smaller than a crop"):
        cut_crops(source, out, 50)
    (source / "Annotations" / "three.xml").write_text("<annotation/>")
    with pytest.raises(UserError, match="no picture"):
        cut_crops(source, out, 16)
    (source / "Annotations" / "three.xml").unlink()
    (source / "Annotations" / "two.xml").write_text("<annotation>")
    with pytest.raises(UserError, match="VOC XML"):
        cut_crops(source, out, 16)
    with pytest.raises(UserError, match="no annotations"):
        cut_crops(source / "JPEGImages", out, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["smears"]
    with pytest.raises(UserError, match="something else"):
        cut_crops(source, source, 16)
    assert (source / "JPEGImages" / "one.png").exists()


def test_nothing_but_own_crops_is_replaced(source, tmp_path) -> None:
    out = tmp_path / "out"
    cut_crops(source, out, 16)
    (out / "mine.png").write_bytes(b"")
    with pytest.raises(UserError, match="something else"):
        cut_crops(source, out, 16)
    (out / "mine.png").unlink()
    (out / "labels.csv").write_text("file,label\none_000.png,mine\n")
    with pytest.raises(UserError, match="something else"):
        cut_crops(source, out, 16)
    assert len(list(out.iterdir())) == 4


def test_the_command_fills_the_workspace_and_its_crops_are_ingested(source, tmp_path) -> None:
    done = CliRunner().invoke(app, ["crops", str(source), "--size", "16", "--workspace", str(tmp_path / "w"), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["crops"] == 3
    from medssl.config import LabelColumns
    from medssl.ingest import ingest
    from medssl.workspace import Workspace

    columns = LabelColumns(file="labels.csv", scan="file", patient="photograph", targets=["label"])
    source_ = tmp_path / "w" / "sources" / "smears_crops"
    ingest([source_], tmp_path / "cohort", workspace=Workspace(tmp_path / "w"), labels=columns, jobs=0)
    from medssl.cohort import Cohort

    units = Cohort.open(tmp_path / "cohort").units("label")
    assert len(units) == 3 and units["patient"].nunique() == 2
