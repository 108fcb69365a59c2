"""Near duplicates: copies of a picture are found, other pictures of the same kind are not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from test_samples import add

from medssl.cohort import Cohort, duplicates
from medssl.cohort.arrays import write_array
from medssl.cohort.splits import cohort_split, grow, split_patients, tied_patients, torn
from medssl.config import Fractions
from medssl.errors import UserError


def scene(seed: int, shape: tuple[int, ...] = (160, 200)) -> np.ndarray:
    """The same large shape in every scene, with detail of its own."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    away = np.exp(-2 * sum(g**2 for g in grid))
    detail = gaussian_filter(rng.normal(size=shape), 3)
    return np.clip(90 * away + 60 * detail / detail.std() * away + 20, 0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream))


COPIES = {
    "saved as JPEG": jpeg,
    "made smaller": lambda a: np.asarray(Image.fromarray(a).resize((120, 96))),
    "brighter": lambda a: np.clip(a * 1.2 + 10, 0, 255).astype(np.uint8),
    "shifted": lambda a: np.roll(a, 3, 1)[:, 3:],
    "in colour": lambda a: np.stack([a, a, np.maximum(a, 3)]),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_a_picture_are_found_and_others_are_not(tmp_path, how) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    scans = [add(cohort, scene(i), patient=f"p{i}") for i in range(12)]
    copy = add(cohort, COPIES[how](scene(5)), patient="other", kind="colour" if how == "in colour" else "image")
    pairs = Cohort.open(cohort.path).near_duplicates()
    assert [set(p) for p in pairs[["first", "second"]].to_numpy()] == [{scans[5], copy}]


@pytest.mark.parametrize("how", COPIES)
def test_copies_in_another_cohort_are_found_and_others_are_not(tmp_path, how) -> None:
    first, second = (Cohort.create(tmp_path / name) for name in ("first", "second"))
    scans = [add(first, scene(i), patient=f"p{i}") for i in range(6)]
    for i in range(20, 24):
        add(second, scene(i), patient=f"q{i}")
    copy = add(second, COPIES[how](scene(5)), patient="other", kind="colour" if how == "in colour" else "image")
    mine, theirs = Cohort.open(first.path).scans(), Cohort.open(second.path).scans()
    found = duplicates.near_between(first.path, mine, second.path, theirs)
    assert found == set(theirs.loc[theirs["scan"] == copy, "content_hash"])
    rest = mine[mine["scan"] != scans[5]]
    assert duplicates.near_between(first.path, rest, second.path, theirs) == set()


def test_volumes(tmp_path) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    volumes = [scene(i, (40, 48, 44)) for i in range(4)]
    scans = [add(cohort, v, patient=f"p{i}", kind="volume") for i, v in enumerate(volumes)]
    copies = [volumes[0][1:], zoom(volumes[1], 0.8, order=1), np.sqrt(volumes[2].astype(np.float32))]
    made = [add(cohort, c, patient=f"q{i}", kind="volume") for i, c in enumerate(copies)]
    pairs = {frozenset(p) for p in Cohort.open(cohort.path).near_duplicates()[["first", "second"]].to_numpy()}
    assert pairs == {frozenset(p) for p in zip(scans, made, strict=False)}


def test_flat_pictures_are_no_duplicates(tmp_path) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    for i in range(3):
        add(cohort, np.full((32, 32), i, np.uint8), patient=f"p{i}")
    assert Cohort.open(cohort.path).near_duplicates().empty


def test_fingerprints_are_made_once_and_pairs_follow_the_scans(tmp_path, monkeypatch) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    for i in range(3):
        add(cohort, scene(i), patient=f"p{i}")
    made = []
    real = duplicates.fingerprint
    monkeypatch.setattr(duplicates, "fingerprint", lambda *a: made.append(1) or real(*a))
    assert Cohort.open(cohort.path).near_duplicates().empty and len(made) == 3
    assert Cohort.open(cohort.path).near_duplicates().empty and len(made) == 3
    add(cohort, jpeg(scene(0)), patient="new")
    assert len(Cohort.open(cohort.path).near_duplicates()) == 1 and len(made) == 4
    (cohort.path / "fingerprints2d.npz").write_bytes(b"cut off")
    (cohort.path / "near.json").unlink()
    assert len(Cohort.open(cohort.path).near_duplicates()) == 1, "a damaged file is made again"


def pairs_of(cohort: Cohort, count: int) -> Cohort:
    """Patients a0, b0, a1, b1...: an image of each, those of one number near duplicates."""
    for i in range(count):
        add(cohort, scene(i), patient=f"a{i:02d}")
        add(cohort, jpeg(scene(i)), patient=f"b{i:02d}")
    return Cohort.open(cohort.path)


def labeled(cohort: Cohort, near: bool = True):
    frame = tied_patients(cohort, cohort.near_duplicates().iloc[: None if near else 0])
    return frame.assign(label=[("x", "y")[int(p[1:]) % 2] for p in frame["patient"]])


def test_near_duplicates_stay_on_one_side_of_the_split(tmp_path) -> None:
    patients = labeled(pairs_of(Cohort.create(tmp_path / "cohort"), 12))
    part = split_patients(patients, Fractions(test=0.4, validation=0.2)).part_of()
    assert all(part[f"a{i:02d}"] == part[f"b{i:02d}"] for i in range(12)) and len(set(part.values())) == 3


@pytest.mark.parametrize("blank", [True, False])
def test_a_blank_picture_ties_nobody(tmp_path, blank) -> None:
    """An empty first frame is equal in all patients, whom another picture that they share would tie."""
    cohort = Cohort.create(tmp_path / "cohort")
    shared = np.full((40, 50), 7, np.uint8) if blank else scene(99)
    for i in range(12):
        add(cohort, scene(i), patient=f"a{i:02d}")
        add(cohort, shared, patient=f"a{i:02d}", scan=f"s{i:016x}")
        write_array(cohort.path, f"s{i:016x}", shared)
    parts = split_patients(labeled(Cohort.open(cohort.path)), Fractions(test=0.4, validation=0.2))
    assert bool(parts.test and parts.validation) == blank


def test_a_split_from_before_near_duplicates_were_known_stays_and_says_so(tmp_path, capsys) -> None:
    cohort = pairs_of(Cohort.create(tmp_path / "cohort"), 8)
    first = cohort_split(cohort.path, labeled(cohort, near=False), Fractions())
    before = (cohort.path / "split.json").read_bytes()
    assert torn(first, labeled(cohort)) > 0
    assert cohort_split(cohort.path, labeled(cohort), Fractions()) == first
    assert (cohort.path / "split.json").read_bytes() == before and "near duplicates" in capsys.readouterr().err
    where = first.part_of()
    i = next(i for i in range(8) if where[f"a{i:02d}"] != where[f"b{i:02d}"])
    add(cohort, np.asarray(Image.fromarray(scene(i)).resize((180, 144))), patient=f"n{i:02d}")
    with pytest.raises(UserError, match="lie across"):
        grow(first, labeled(Cohort.open(cohort.path)))


def test_a_new_near_duplicate_follows_its_patient_into_the_test_part(tmp_path) -> None:
    cohort = Cohort.create(tmp_path / "cohort")
    for i in range(10):
        add(cohort, scene(i), patient=f"a{i:02d}")
    split = cohort_split(cohort.path, labeled(Cohort.open(cohort.path)), Fractions())
    number = int(split.test[0][1:])
    add(cohort, jpeg(scene(number)), patient="b00" if number % 2 == 0 else "b01")
    grown = cohort_split(cohort.path, labeled(Cohort.open(cohort.path)), Fractions())
    assert set(grown.test) - set(split.test) == {"b00" if number % 2 == 0 else "b01"}


def test_real_ultrasound_groups_are_found(shared_data: Path, workspace, tmp_path) -> None:
    """The groups of busi that have several images, against ours."""
    import shutil

    import pandas as pd

    from medssl.config import LabelColumns
    from medssl.ingest import ingest

    table = pd.read_csv(shared_data / "busi" / "labels.csv")
    groups = table.groupby("dup_group")["file"].transform("count")
    chosen = table[groups > 1]
    (tmp_path / "source").mkdir()
    for name in chosen["file"]:
        shutil.copy(next((shared_data / "busi").rglob(name)), tmp_path / "source" / name)
    chosen.to_csv(tmp_path / "source" / "labels.csv", index=False)
    columns = LabelColumns(file="labels.csv", scan="file", group="dup_group", targets=["label"])
    ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, labels=columns, jobs=0)
    cohort = Cohort.open(tmp_path / "cohort")
    scans, pairs = cohort.scans(), cohort.near_duplicates()
    group = dict(zip(scans["scan"], scans["group"], strict=True))
    inside = sum(group[a] == group[b] for a, b in zip(pairs["first"], pairs["second"], strict=True))
    sizes = scans.drop_duplicates("content_hash").groupby("group").size()
    assert inside >= 0.97 * (sizes * (sizes - 1) // 2).sum()
    assert json.loads((cohort.path / "near.json").read_text())["pairs"]


def test_hands_of_sixty_four_pixels_are_different_hands(shared_data: Path, tmp_path) -> None:
    """Their outlines agree, and at this size little else is left: small scans need more likeness."""
    cohort = Cohort.create(tmp_path / "cohort")
    for file in sorted((shared_data / "mednist_small" / "Hand").glob("*.jpeg"))[:100]:
        add(cohort, np.asarray(Image.open(file)))
    rows = cohort.scans()
    prints = duplicates._fingerprints(cohort.path, rows, 2, duplicates.RECIPES[2])
    alike = list(duplicates._pairs(*prints, 2, duplicates.RECIPES[2]))
    assert len(rows) == 100 and alike, "without the rule for small scans there are pairs"
    assert cohort.near_duplicates().empty
