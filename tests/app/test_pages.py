"""Every page in every state: an empty workspace, a finished experiment, half-written and damaged ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from synthetic import write_experiment

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from make_screenshots import main_page

MAIN = main_page()
PAGES = ("home", "label_efficiency", "pretraining")  # of experiments


@pytest.fixture
def open_app(monkeypatch):
    """Run the app on a workspace, as `medssl app` starts it."""

    def start(workspace: Path, page: str = "home", **query: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["main.py", "--workspace", str(workspace)])
        app = AppTest.from_file(str(MAIN), default_timeout=60)
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        if page != "home":
            app.switch_page(f"views/{page}.py").run()
        assert not app.exception, app.exception[0].message
        return app

    return start


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A workspace with one finished experiment, `synthetic`."""
    workspace = tmp_path_factory.mktemp("workspace")
    write_experiment(workspace)
    return workspace


@pytest.fixture(scope="module")
def one_draw(tmp_path_factory) -> Path:
    """The same, with one draw: small, to be damaged in many ways."""
    workspace = tmp_path_factory.mktemp("one_draw")
    write_experiment(workspace, draws=1, test_units=10)
    return workspace


def words(app: AppTest) -> str:
    """All text that a page shows."""
    pieces = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption, *app.info, *app.warning, *app.error]
    return " ".join([str(p.value) for p in pieces] + [h.proto.body for h in app.get("html")])


def charts(app: AppTest) -> list:
    return list(app.get("vega_lite_chart"))


def test_empty_workspace_says_what_to_do(open_app, tmp_path):
    app = open_app(tmp_path / "nothing")
    for page in PAGES:
        app = app if page == "home" else app.switch_page(f"views/{page}.py").run()
        text = words(app)
        assert "New run" in text and "yet" in text and app.title
        assert page == "pretraining" or ("no experiments yet" in text and "medssl demo" in text)


def test_a_workspace_that_is_a_file_is_said_in_a_sentence(open_app, tmp_path):
    (tmp_path / "file").write_text("")
    assert "not a folder" in words(open_app(tmp_path / "file"))


def test_home_lists_experiments_with_their_verdict(open_app, finished):
    app = open_app(finished)
    text = words(app)
    assert "finished" in text
    assert "With 5 labels a class" in text  # the claim's budget
    assert "With 2 labels a class" not in text


def test_open_leads_to_the_curve(open_app, finished):
    app = open_app(finished)
    next(b for b in app.button if b.label == "Open").click().run()
    assert not app.exception
    assert charts(app) and "Verdict at each budget" in words(app)


def test_curve_page_shows_chart_verdicts_tables_and_downloads(open_app, finished):
    app = open_app(finished, "label_efficiency")
    text = words(app)
    assert len(charts(app)) == 2
    for budget in ("With 2 labels a class", "With 5 labels a class", "With all labels"):
        assert budget in text
    assert "virtual" in text  # the experiment's own note stands open
    assert "†" in text and "no evidence" in text
    assert "test patients looked at 0 times" in text and "Labels saved against scratch" in text
    assert "other task, same domain, in sequence" in text and "simclr on virtual" in text and "the labels alone" in text
    assert "Labels saved: scratch needs" in text.replace("\\", "") and "named beforehand" in text
    labels = [b.label for b in app.get("download_button")]
    charts_as = [f"{chart}, {kind}" for chart in ("Curve", "Differences") for kind in ("PNG", "SVG", "CSV")]
    assert labels == [*charts_as[:3], "Report, HTML", *charts_as[3:]]
    spec = json.loads(charts(app)[0].proto.spec)
    scales = [layer["encoding"]["x"]["scale"] for layer in spec["layer"] if "scale" in layer["encoding"].get("x", {})]
    assert scales and all(s["type"] == "log" and len(s["domain"]) == 2 for s in scales)


def test_title_and_names_are_shown_as_they_are(open_app, finished):
    app = open_app(finished, "label_efficiency")
    assert (
        app.title[0].value == "Label efficiency"
        and app.subheader[0].value.replace("\\", "") == "Synthetic <experiment> & more"
    )


def arms_drawn(app: AppTest) -> set[str]:
    spec = json.loads(charts(app)[0].proto.spec)
    line = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "line")
    return set(line["encoding"]["color"]["scale"]["domain"])


def test_arms_and_metric_can_be_chosen_and_stand_in_the_url(open_app, finished):
    app = open_app(finished, "label_efficiency")
    assert arms_drawn(app) == {"pixels", "scratch", "rotation", "simclr"}
    app.get("button_group")[1].set_value(["simclr", "scratch"]).run()
    app.get("button_group")[0].set_value("accuracy").run()
    assert not app.exception
    assert arms_drawn(app) == {"scratch", "simclr"}
    assert "Accuracy" in json.dumps(json.loads(charts(app)[0].proto.spec)["title"])
    query = {k: v if isinstance(v, str) else v[0] for k, v in app.query_params.items()}
    assert query["experiment"] == "synthetic" and query["metric"] == "accuracy" and query["arms"] == "scratch,simclr"


def test_a_link_restores_the_view(open_app, finished):
    app = open_app(finished, "label_efficiency", experiment="synthetic", metric="accuracy", arms="simclr")
    assert arms_drawn(app) == {"simclr"}


def test_a_link_to_things_that_do_not_exist_falls_back(open_app, finished):
    app = open_app(finished, "label_efficiency", experiment="no_such", metric="no_such", arms="no_such")
    assert arms_drawn(app) == {"pixels", "scratch", "rotation", "simclr"}


def test_no_arm_at_all_is_said_in_a_sentence(open_app, finished):
    app = open_app(finished, "label_efficiency")
    app.get("button_group")[1].set_value([]).run()
    assert not app.exception
    assert "at least one arm" in words(app)


def test_pretraining_page_shows_each_run(open_app, finished):
    app = open_app(finished, "pretraining")
    assert len(charts(app)) == 2
    text = words(app)
    assert "800 of 800" in text
    assert [b.label for b in app.get("download_button")] == [f"History, {kind}" for kind in ("PNG", "SVG", "CSV")]
    assert "simclr" in text and "Used by" in text and "6 →" in text, "from the untrained network's loss"


def damage(folder: Path, how: str) -> None:
    if how == "config only":
        for path in folder.iterdir():
            if path.name != "config.yaml":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif how == "broken config":
        (folder / "config.yaml").write_text("a: [")
    elif how == "config of another version":
        (folder / "config.yaml").write_text("name: synthetic\nno_such_key: 1\n")
    elif how == "broken evidence":
        next((folder / "results").iterdir()).write_bytes(b"not parquet")
    elif how == "missing evidence":
        next((folder / "results").iterdir()).unlink()
    elif how == "broken index":
        (folder / "jobs.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 20)
    elif how == "broken budgets":
        (folder / "budgets.json").write_text('{"0": {')
    elif how == "broken history":
        for log in (folder.parent.parent / "encoders").glob("*/history.jsonl"):
            log.write_text('{"step": 1, "lo')  # a run that was killed while it wrote its first line


@pytest.mark.parametrize(
    "how",
    [
        "config only",
        "broken config",
        "config of another version",
        "broken evidence",
        "missing evidence",
        "broken index",
        "broken budgets",
        "broken history",
    ],
)
def test_half_written_and_damaged_experiments_are_said_in_a_sentence(open_app, one_draw, tmp_path, how):
    shutil.copytree(one_draw, tmp_path / "workspace")
    damage(tmp_path / "workspace" / "experiments" / "synthetic", how)
    app = open_app(tmp_path / "workspace")
    for page in PAGES:
        app = app if page == "home" else app.switch_page(f"views/{page}.py").run()
        assert not app.exception, app.exception[0].message
        text = words(app)
        assert "Traceback" not in text
        unharmed = (
            ("broken history",) if page != "pretraining" else ("broken evidence", "missing evidence", "broken budgets")
        )
        if how not in unharmed:
            assert any(say in text for say in ("yet", "damaged", "cannot be read", "nknown key", "as far as")), (
                page,
                text,
            )


def test_home_curve_and_cohort_do_not_load_torch(finished):
    code = (
        "import sys; sys.argv = ['main.py', sys.argv[1]]\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(MAIN)!r}, default_timeout=60).run()\n"
        "for page in ('label_efficiency', 'cohort', 'home'):\n"
        "    app.switch_page(f'views/{page}.py').run()\n"
        "    assert not app.exception\n"
        "assert 'medssl.figures.curve' in sys.modules and 'medssl.cohort.viewing' in sys.modules\n"
        "print(sorted({'torch', 'timm', 'monai', 'lightning', 'lightning_fabric'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(finished)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
