"""Data cards: figures are made again, what people wrote is kept, and machines can read both."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from test_samples import add
from typer.testing import CliRunner

from medssl.cli import app
from medssl.cohort import Cohort, catalog
from medssl.cohort.card import write_card
from medssl.cohort.card.figures import size_category
from medssl.cohort.card.markdown import QUESTION, read_card
from medssl.errors import UserError

CARDS = sorted((Path(__file__).parents[2] / "data_cards").glob("*.md"))
HEADINGS = [
    "Motivation", "Composition", "Collection process", "Preprocessing, cleaning, labeling", "Uses", "Distribution",
    "Maintenance",
]  # fmt: skip


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    made = Cohort.create(tmp_path / "hands")
    rng = np.random.default_rng(0)
    for i in range(6):
        picture = rng.integers(0, 255, (30 + i, 40), dtype=np.uint8)
        scan = add(made, picture, patient=f"p{i // 2}", spacing=[0.2, 0.1 * (i + 1)], modality="DX", vendor="GE")
        with catalog.writing(made.path) as db:
            catalog.put_labels(db, [(scan, "fracture", "ny"[i % 2])])
            catalog.put_file(db, f"f{i}", "accepted", "", scan, 1, 1)
    with catalog.writing(made.path) as db:
        catalog.put_file(db, "f8", "rejected", "truncated", "", 1, 1)
        catalog.put_file(db, "f9", "ignored", "not_a_scan", "", 1, 1)
    return Cohort.open(made.path)


def validated(path: Path, monkeypatch):
    """The metadata as mlcroissant reads them; an error of the format is raised, and so is any use of a network."""

    def refuse(*_, **__):
        raise AssertionError("validation must not use a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    mlcroissant = pytest.importorskip("mlcroissant")
    return mlcroissant.Dataset(path)


def test_a_new_card_has_its_figures_and_asks_the_rest(cohort) -> None:
    page, _ = write_card(cohort)
    text = page.read_text(encoding="utf-8")
    assert page == cohort.path / "hands.md" and re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    front = yaml.safe_load(text.split("---\n")[1])
    assert front == {
        "pretty_name": "hands", "license": "unknown", "task_categories": ["image-classification"],
        "tags": ["medical", "DX"], "size_categories": ["n<1K"],
    }  # fmt: skip
    assert "8 found = 6 accepted + 1 rejected + 1 ignored" in text and "| 3 (scans of each: 2) |" in text
    assert "| DX images | 6 | 3 | GE | head | 30–35 × 40 | 0.2 × 0.1–0.6 | a.u.; uint8 |" in text
    assert "| n | 3 | 50.0% | 3 |" in text and "| rejected | truncated | 1 |" in text
    assert len(QUESTION.findall(text)) == 11 and read_card(text, "").sections.keys() == {
        "Personal and sensitive information"
    }


def test_croissant_is_valid_and_carries_people_and_figures(cohort, monkeypatch) -> None:
    page, metadata = write_card(cohort)
    text = page.read_text(encoding="utf-8")
    questions = QUESTION.findall(text)
    text = (
        text.replace(questions[0], "Hands of\nadults.")
        .replace(questions[3], "By hand.")
        .replace(questions[7], "- too few\n- too old")
    )
    text = text.replace("license: unknown", "license: cc-by-4.0\nurl: https://example.org\nversion: 1.2.0")
    page.write_text(text, encoding="utf-8")
    write_card(cohort)
    found = validated(metadata, monkeypatch)
    facts = found.metadata
    assert facts.description == "Hands of adults. 6 scans of 3 patients." and facts.version == "1.2.0"
    assert facts.license == ["https://spdx.org/licenses/CC-BY-4.0"] and facts.data_collection == "By hand."
    assert facts.data_limitations == ["- too few\n- too old"] and facts.data_biases is None
    assert "keyed names" in facts.personal_sensitive_information[0]
    assert facts.data_collection_missing_data.startswith("1 of 8 files were rejected at ingestion and 1 ignored")
    classes = {r["classes/value"]: r["classes/scans"] for r in found.records("classes")}
    assert classes == {"n": 3, "y": 3}
    assert json.loads(metadata.read_text())["conformsTo"][1].endswith("RAI/1.0")


def outside(text: str) -> str:
    """All that people may have written."""
    return re.sub(r"(<!-- medssl:(\w+)[^>]*-->).*?(<!-- /medssl:\2 -->)", r"\1\3", text, flags=re.DOTALL)


def test_what_people_wrote_is_kept_to_the_letter(cohort) -> None:
    page, _ = write_card(cohort)
    text = page.read_text(encoding="utf-8")
    text = text.replace("license: unknown", "license: mit  # as the owner said\nannotations_creators: [expert]")
    text = text.replace("# hands", "# Hands  \n\n* * *\n<!-- a note -->")
    text = text.replace("<!-- medssl:figures", "Right before.<!-- medssl:figures", 1)
    text = text.replace("<!-- /medssl:figures -->", "<!-- /medssl:figures --> Right behind.")
    text = re.sub(r"<!-- medssl:origin .*?-->", "<!-- medssl:origin -->", text) + "\n\nAn end without a new line ä"
    page.write_text(text, encoding="utf-8")
    add(cohort, np.full((9, 9), 1, np.uint8), patient="p9")
    write_card(Cohort.open(cohort.path))
    renewed = page.read_text(encoding="utf-8")
    assert outside(renewed) == outside(text) and renewed != text and "| 4 (scans of each: 1 to 2" in renewed
    write_card(Cohort.open(cohort.path))
    assert page.read_text(encoding="utf-8") == renewed, "and again, nothing changes"


def test_a_part_that_was_taken_out_stays_out(cohort) -> None:
    page, _ = write_card(cohort)
    text = re.sub(r"<!-- medssl:exclusions.*?/medssl:exclusions -->", "", page.read_text("utf-8"), flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")
    write_card(cohort)
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.replace("<!-- /medssl:figures -->", ""), "marks of the part 'figures'"),
        (lambda t: t + "<!-- /medssl:origin -->", "marks of the part 'origin'"),
        (
            lambda t: t.replace("<!-- /medssl:figures -->", "").replace("## Uses", "<!-- /medssl:figures -->"),
            "'figures'",
        ),
        (lambda t: "# My own notes\n", "not a card"),
        (lambda t: t.replace("license: unknown", "license: [unknown"), "front matter"),
        (lambda t: t[4:], "front matter"),
    ],
)
def test_a_damaged_card_is_not_touched(cohort, damage, message) -> None:
    page, _ = write_card(cohort)
    page.write_text(damage(page.read_text(encoding="utf-8")), encoding="utf-8")
    before = page.read_bytes()
    with pytest.raises(UserError, match=message):
        write_card(cohort)
    assert page.read_bytes() == before


def test_size_categories_grow_and_comments_stay(cohort) -> None:
    from medssl.cohort.card.markdown import new_card, renew

    blocks = dict.fromkeys(("figures", "exclusions", "origin"), "")
    text = new_card("x", blocks, {"license": "mit", "size_categories": ["n<1K"], "tags": ["a"]})
    text = text.replace("license: mit", "license: mit # sure")
    grown = renew(text, blocks, [size_category(1_000)], "")
    assert yaml.safe_load(grown.split("---\n")[1]) == {"license": "mit", "tags": ["a"], "size_categories": ["1K<n<10K"]}
    assert "# sure" in grown


def test_labels_that_are_no_classes_are_not_repeated(cohort) -> None:
    with catalog.writing(cohort.path) as db:
        scans = [scan for (scan,) in db.execute("SELECT scan FROM scans")]
        for n, scan in enumerate(scans):
            rows = [
                (scan, "seen", "2019-03-04"),
                (scan, "report", f"CANARY {n}"),
                (scan, "mark", "a|<!-- /medssl:figures -->"),
            ]
            catalog.put_labels(db, rows)
    page, metadata = write_card(Cohort.open(cohort.path))
    text = page.read_text(encoding="utf-8")
    assert "2019" not in text + metadata.read_text() and "CANARY" not in text + metadata.read_text()
    assert "Target `report`: 6 different values" in text and r"a\|&lt;!-- /medssl:figures -->" in text
    write_card(Cohort.open(cohort.path))


def test_nothing_that_identifies_reaches_card_or_check(tmp_path, workspace) -> None:
    from medssl.cohort.check import check
    from medssl.config import LabelColumns
    from medssl.ingest import ingest

    source = tmp_path / "CANARYSITE"
    source.mkdir()
    for i in range(4):
        picture = np.random.default_rng(i // 2).integers(0, 255, (20, 20), dtype=np.uint8)
        Image.fromarray(picture).save(source / f"CANARYFILE{i}.png")
    lines = [f"CANARYFILE{i}.png,CANARYDOE{i},{'ab'[i % 2]}" for i in range(4)]
    (source / "labels.csv").write_text("\n".join(["file,who,kind", *lines]))
    labels = LabelColumns(file="labels.csv", scan="file", patient="who")
    ingest([source], workspace.cohort("c"), workspace=workspace, labels=labels, jobs=1)
    cohort = Cohort.open(workspace.cohort("c"))
    assert {c.code for c in check(cohort).to_decide} == {"one_patient_two_keys", "label_conflicts"}
    write_card(cohort)
    files = [p for p in workspace.path.rglob("*") if p.is_file()]
    assert {"c.md", "c.croissant.json", "check.json", "ingest_report.html", "near.json"} <= {p.name for p in files}
    assert not [p.name for p in files if b"CANARY" in p.read_bytes()]


def test_the_command(cohort, tmp_path) -> None:
    done = CliRunner().invoke(app, ["card", str(cohort.path), "--out", str(tmp_path / "cards"), "--json"])
    assert done.exit_code == 0, done.output
    assert {Path(p).name for p in json.loads(done.stdout).values()} == {p.name for p in (tmp_path / "cards").iterdir()}
    (tmp_path / "cards" / "hands.md").write_text("mine")
    assert CliRunner().invoke(app, ["card", str(cohort.path), "--out", str(tmp_path / "cards")]).exit_code == 2


@pytest.mark.parametrize("page", CARDS, ids=lambda p: p.stem)
def test_shipped_cards_are_whole(page: Path, monkeypatch) -> None:
    text = page.read_text(encoding="utf-8")
    card = read_card(text, page.name)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS and not QUESTION.search(text)
    assert {"pretty_name", "license", "task_categories", "tags", "size_categories"} <= card.front.keys()
    facts = validated(page.with_name(f"{page.stem}.croissant.json"), monkeypatch).metadata
    assert (
        facts.name == card.front["pretty_name"] and facts.data_biases and facts.data_use_cases and facts.data_collection
    )
