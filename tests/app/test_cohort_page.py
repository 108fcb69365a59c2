"""The page of cohorts in every state: sections, filters, viewer, check, card, split; and cohorts that are not well."""

from __future__ import annotations

import shutil

import pytest
from synthetic import write_cohort, write_experiment
from test_pages import open_app, words  # noqa: F401  (fixtures)

from medssl.cohort import Cohort, browse, catalog
from medssl.cohort.browse import Filter
from medssl.cohort.splits import Split
from medssl.config import Fractions


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with the cohort `virtual` and an experiment about it."""
    workspace = tmp_path_factory.mktemp("workspace")
    write_experiment(workspace, draws=1, test_units=10)
    cohort = write_cohort(workspace)
    patients = sorted(cohort.scans()["patient"].unique())
    split = Split.of({"pool": patients[:8], "validation": patients[8:9], "test": patients[9:]}, Fractions())
    split.save(cohort.path / "split.json")
    return workspace


@pytest.fixture
def workspace(made, tmp_path):
    """The same, to be changed."""
    shutil.copytree(made, tmp_path / "workspace")
    return tmp_path / "workspace"


def plain(app) -> str:
    return words(app).replace("\\", "")


def asked(app, key: str) -> str | None:
    value = app.query_params.get(key)
    return value[0] if isinstance(value, list) else value


def first(workspace, **wanted) -> dict:
    return browse.page(Cohort.open(workspace / "cohorts" / "virtual"), Filter(**wanted))[0]


def pictures(app) -> int:
    return len(app.get("image"))


def button(app, label: str):
    return next(b for b in app.button if b.label == label)


def save(app, area) -> None:
    """Press the button below this text area."""
    number = [a.id for a in app.text_area].index(area.id)
    [b for b in app.button if b.label == "Save"][number].click().run()


def test_overview_counts_and_repeats_no_free_text(open_app, made):  # noqa: F811
    text = plain(open_app(made, "cohort"))
    assert "32, in 32 series" in text and "16 (scans of each: 2)" in text
    assert "CT volumes" in text and "5 × 1 × 1" in text and "GE" in text
    assert "nodule" in text and "50.0 %" in text
    assert "30 different values, which are not shown" in text and "12.03.2019" not in text


def test_scans_are_paged_and_filtered_and_the_view_stands_in_the_url(open_app, made):  # noqa: F811
    app = open_app(made, "cohort", show="Scans")
    assert pictures(app) == 24 and "32 scans" in plain(app)
    button(app, "Next").click().run()
    assert pictures(app) == 8 and asked(app, "page") == "2" and not app.exception
    next(s for s in app.selectbox if s.label == "Modality").set_value("CT").run()
    assert pictures(app) == 2 and asked(app, "modality") == "CT" and asked(app, "page") is None
    assert (made / "cohorts" / "virtual" / "thumbnails").is_dir()


def test_a_link_restores_filters_and_page(open_app, made):  # noqa: F811
    assert pictures(open_app(made, "cohort", show="Scans", label="finding: nodule")) == 15
    app = open_app(made, "cohort", show="Scans", vendor="no such")
    for page in ("2", "999", "--2"):
        app.query_params["page"] = page
        app.run()
        assert pictures(app) == (24 if page == "--2" else 8) and not app.exception


def test_filters_that_nothing_passes_are_said(open_app, made):  # noqa: F811
    assert "No scan passes" in plain(open_app(made, "cohort", show="Scans", modality="CT", label="finding: nodule"))


def test_the_viewer_has_planes_slices_windows_and_the_mask(open_app, made):  # noqa: F811
    cohort = Cohort.open(made / "cohorts" / "virtual")
    masked = next(r["scan"] for r in browse.page(cohort, Filter(modality="CT")) if cohort.mask(r["scan"]) is not None)
    app = open_app(made, "cohort", show="Scans", scan=masked)
    assert pictures(app) == 1 and app.slider[0].max == 6 and app.toggle[0].value
    assert "Lung" in next(s for s in app.selectbox if s.label == "Window").options[1]
    app.slider[0].set_value(2).run()
    assert asked(app, "slice") == "2" and "5.0 mm" in plain(app) and not app.exception
    group = next(g for g in app.get("button_group") if "sagittal" in str(g.proto))
    group.set_value("sagittal").run()
    assert app.slider[0].max == 20 and app.slider[0].value == 11 and asked(app, "plane") == "sagittal"
    app.toggle[0].set_value(False).run()
    assert asked(app, "mask") == "0" and not app.exception


def test_the_viewer_goes_to_the_scan_after_and_back_to_all(open_app, made):  # noqa: F811
    app = open_app(made, "cohort", show="Scans")
    order = [b.key.removeprefix("tile ") for b in app.button if b.key and b.key.startswith("tile ")]
    next(b for b in app.button if b.key == f"tile {order[0]}").click().run()
    assert asked(app, "scan") == order[0] and button(app, "Scan before").disabled
    button(app, "Scan after").click().run()
    assert asked(app, "scan") == order[1] and not app.exception
    button(app, "All scans").click().run()
    assert asked(app, "scan") is None and pictures(app) == 24


def test_pixels_that_may_name_a_patient_are_shown_only_when_asked_for(open_app, made):  # noqa: F811
    row = first(made, finding="burned_in_pixels")
    app = open_app(made, "cohort", show="Scans", scan=row["scan"])
    assert "burned-in text" in app.warning[0].value
    button(app, "Show the pixels").click().run()
    assert not app.warning and pictures(app) == 1 and not app.exception


def test_a_scan_that_is_gone_is_said(open_app, workspace):  # noqa: F811
    assert "not in the cohort" in plain(open_app(workspace, "cohort", show="Scans", scan="sno_such"))
    row = first(workspace, modality="CT")
    (workspace / "cohorts" / "virtual" / "arrays" / row["scan"][1:3] / f"{row['scan']}.npy").unlink()
    shutil.rmtree(workspace / "cohorts" / "virtual" / "thumbnails", ignore_errors=True)
    assert "cannot be read" in plain(open_app(workspace, "cohort", show="Scans", scan=row["scan"]))
    assert "picture is gone" in plain(open_app(workspace, "cohort", show="Scans", modality="CT"))


def test_findings_show_pictures_and_lead_to_their_scans(open_app, made):  # noqa: F811
    app = open_app(made, "cohort", show="Findings")
    assert "lines of text" in plain(app) and pictures(app) == 1
    next(b for b in app.button if b.key == "finding burned_in_pixels").click().run()
    assert asked(app, "show") == "Scans" and asked(app, "finding") == "burned_in_pixels" and pictures(app) == 1


def test_the_check_is_run_here_and_shown_case_by_case(open_app, workspace):  # noqa: F811
    cohort = Cohort.open(workspace / "cohorts" / "virtual")
    row = first(workspace, modality="DX")
    twin = {k: v for k, v in row.items() if k not in ("group", "veiled")} | {"scan": "s" + "0" * 16, "grp": None}
    shutil.copy(cohort.path / "arrays" / row["scan"][1:3] / f"{row['scan']}.npy", cohort.path / "twin.npy")
    (cohort.path / "arrays" / "00").mkdir(exist_ok=True)
    (cohort.path / "twin.npy").rename(cohort.path / "arrays" / "00" / f"{twin['scan']}.npy")
    with catalog.writing(cohort.path) as db:
        catalog.put_scan(db, twin | {"patient": "pother", "exam": "eother"})
    app = open_app(workspace, "cohort", show="Duplicates and outliers")
    assert "not been checked yet" in plain(app)
    button(app, "Check this cohort").click().run()
    assert not app.exception and (cohort.path / "check.json").exists()
    options = next(s for s in app.selectbox if s.label == "What was found").options
    assert options[0].startswith("To decide: Patients share a picture")
    assert "patients p" in plain(app) and pictures(app) == 2
    button(app, f"Open {row['scan'][:9]}").click().run()
    assert asked(app, "scan") == row["scan"] and not app.exception


def test_a_damaged_check_is_made_again(open_app, workspace):  # noqa: F811
    (workspace / "cohorts" / "virtual" / "check.json").write_text('{"conc')
    app = open_app(workspace, "cohort", show="Duplicates and outliers")
    assert "not been checked yet" in plain(app)


def test_split_and_budgets_of_the_chosen_experiment(open_app, workspace):  # noqa: F811
    text = plain(open_app(workspace, "cohort", show="Split and budgets", experiment="synthetic"))
    assert "One split for all experiments" in text and "Labeled images in total" in text and "80" in text
    write_cohort(workspace, "another", volumes=0, images=2)
    text = plain(open_app(workspace, "cohort", cohort="another", show="Split and budgets", experiment="synthetic"))
    assert "not been split" in text and "about another cohort" in text
    path = workspace / "cohorts" / "virtual" / "split.json"
    path.write_text(path.read_text().replace('"p0', '"p1', 1))
    assert "changed by hand" in plain(open_app(workspace, "cohort", cohort="virtual", show="Split and budgets"))


def test_the_card_is_made_here_and_its_human_parts_are_written_here(open_app, workspace):  # noqa: F811
    app = open_app(workspace, "cohort", show="Data card")
    assert "no data card yet" in plain(app)
    button(app, "Make the data card").click().run()
    assert not app.exception and "| patients | 16" in plain(app)
    area = next(a for a in app.text_area if a.label == "Motivation")
    assert area.value == "" and area.placeholder.startswith("For what purpose")
    area.set_value("To find nodules. ![x](http://example.org/x.png)")
    save(app, area)
    assert not app.exception and not app.error
    assert "To find nodules." in (workspace / "cohorts" / "virtual" / "virtual.md").read_text()
    shown = next(m.value for m in app.markdown if "To find nodules" in m.value)
    assert "![" not in shown.replace("!\\[", ""), "a picture from elsewhere is not asked for"


def test_a_card_that_changed_meanwhile_is_not_overwritten(open_app, workspace):  # noqa: F811
    app = open_app(workspace, "cohort", show="Data card")
    button(app, "Make the data card").click().run()
    area = next(a for a in app.text_area if a.label == "Uses")
    area.set_value("<!-- medssl:figures -->")
    save(app, area)
    assert "own marks" in app.error[0].value and not app.exception


def test_labels_that_matched_nothing_say_what_to_do(open_app, workspace):  # noqa: F811
    with catalog.writing(workspace / "cohorts" / "virtual") as db:
        db.execute("DELETE FROM labels")
    text = plain(open_app(workspace, "cohort"))
    assert "No scan of this cohort has a label" in text and "--patient-column" in text
    assert pictures(open_app(workspace, "cohort", show="Scans")) == 24


def test_a_deleted_cohort_is_said_and_another_one_shown(open_app, workspace):  # noqa: F811
    write_cohort(workspace, "another", volumes=0, images=2)
    shutil.rmtree(workspace / "cohorts" / "virtual")
    app = open_app(workspace, "cohort", cohort="virtual")
    assert "not in this workspace" in app.warning[0].value and asked(app, "cohort") == "another"
    shutil.rmtree(workspace / "cohorts" / "another")
    assert "no cohorts yet" in plain(open_app(workspace, "cohort"))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("empty file", "cannot be read"),
        ("not a database", "cannot be read"),
        ("no scans", "has no scans"),
    ],
)
def test_cohorts_that_are_half_written_are_said_in_a_sentence(open_app, workspace, harm, says):  # noqa: F811
    path = workspace / "cohorts" / "virtual" / "catalog.sqlite"
    if harm == "no scans":
        with catalog.writing(path.parent) as db:
            db.execute("DELETE FROM scans")
    else:
        path.write_bytes(b"" if harm == "empty file" else b"not a database, but long enough to be read as one" * 20)
    for section in ("Overview", "Scans", "Data card"):
        app = open_app(workspace, "cohort", cohort="virtual", show=section)
        assert says in plain(app) and "Traceback" not in plain(app)
