"""What can be asked of the page of curves: relative curves, axes, savings, other experiments beside it."""

from __future__ import annotations

import json

import pytest
import yaml
from synthetic import write_experiment
from test_pages import arms_drawn, charts, open_app, words  # noqa: F401  (fixtures)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A workspace with two finished experiments."""
    workspace = tmp_path_factory.mktemp("two")
    write_experiment(workspace)
    write_experiment(workspace, "other")
    return workspace


def title(app, number: int = 0) -> str:
    return json.dumps(json.loads(charts(app)[number].proto.spec)["title"])


def asked(app, key: str) -> str | None:
    value = app.query_params.get(key)
    return value[0] if isinstance(value, list) else value


@pytest.mark.parametrize("arm", ["scratch", "rotation"])  # a baseline of the config, and an arm that is none
def test_the_curve_relative_to_an_arm(open_app, two, arm):  # noqa: F811
    app = open_app(two, "label_efficiency", experiment="synthetic")
    next(s for s in app.selectbox if s.label == "Relative to").set_value(arm).run()
    assert not app.exception and f"difference to {arm}" in title(app)
    assert arms_drawn(app) == {"pixels", "scratch", "rotation", "simclr"} - {arm} and asked(app, "to") == arm
    assert f"difference to {arm}" in title(open_app(two, "label_efficiency", experiment="synthetic", to=arm))


def test_axes_and_the_full_label_line_can_be_switched_off(open_app, two):  # noqa: F811
    app = open_app(two, "label_efficiency", experiment="synthetic")
    assert "scratch with all labels" in charts(app)[0].proto.spec or "scratch with all labels" in str(
        charts(app)[0].proto
    )
    app.get("button_group")[2].set_value([]).run()
    spec = json.loads(charts(app)[0].proto.spec)
    scales = [la["encoding"]["x"]["scale"]["type"] for la in spec["layer"] if "scale" in la["encoding"].get("x", {})]
    assert set(scales) == {"linear"} and asked(app, "axes") == ""
    assert not any(la["encoding"].get("text", {}).get("field") == "words" for la in spec["layer"])
    again = open_app(two, "label_efficiency", experiment="synthetic", axes="full")
    assert "linear" in charts(again)[0].proto.spec


def test_smallest_budgets_and_savings_are_in_tables(open_app, two):  # noqa: F811
    text = words(open_app(two, "label_efficiency", experiment="synthetic"))
    assert "How few labels come close to all" in text and "Surely" in text and "Labels saved against scratch" in text


def test_other_experiments_stand_beside_it_on_one_scale(open_app, two):  # noqa: F811
    app = open_app(two, "label_efficiency", experiment="synthetic")
    app.multiselect[0].set_value(["other"]).run()
    assert not app.exception and len(charts(app)) == 4 and asked(app, "with") == "other"
    specs = [json.loads(chart.proto.spec) for chart in charts(app)[2:]]
    lines = [[la for la in spec["layer"] if la["mark"]["type"] == "line"][-1]["encoding"] for spec in specs]
    assert lines[0]["y"]["scale"] == lines[1]["y"]["scale"] and lines[0]["color"] == lines[1]["color"]
    assert "the same test patients" in words(app)
    assert [b.label for b in app.get("download_button")][-3:] == ["other, PNG", "other, SVG", "other, CSV"]


def test_experiments_that_cannot_be_compared_say_why(open_app, tmp_path):  # noqa: F811
    write_experiment(tmp_path, draws=1, test_units=10)
    folder = write_experiment(tmp_path, "other", draws=1, test_units=10)
    facts = json.loads((folder / "facts.json").read_text()) | {"split": "another"}
    (folder / "facts.json").write_text(json.dumps(facts))
    app = open_app(tmp_path, "label_efficiency", **{"experiment": "synthetic", "with": "other"})
    assert "compare the shapes" in words(app)
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"metrics": ["accuracy"], "claim": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    app = open_app(tmp_path, "label_efficiency", **{"experiment": "synthetic", "with": "other"})
    assert "has no AUC" in words(app) and len(charts(app)) == 2
    (folder / "config.yaml").write_text("a: [")
    app = open_app(tmp_path, "label_efficiency", **{"experiment": "synthetic", "with": "other"})
    assert "damaged" in words(app)


def test_a_click_reads_no_jobs_and_no_evidence_again(open_app, two, monkeypatch):  # noqa: F811
    """With 10,000 jobs each reading would take a second."""
    app = open_app(two, "label_efficiency", experiment="synthetic")
    from medssl.experiment import Results
    from medssl.experiment.index import Index

    for owner, name in ((Results, "files"), (Index, "jobs"), (Results, "load")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("read again"))
    app.get("button_group")[1].set_value(["simclr", "scratch"]).run()
    assert not app.exception and arms_drawn(app) == {"simclr", "scratch"}


def test_nothing_is_shown_on_another_address_without_a_login(open_app, two):  # noqa: F811
    from streamlit import config

    config.set_option("server.address", "0.0.0.0")
    try:
        text = words(open_app(two))
        assert "without a password" in text and "Experiments" not in text
    finally:
        config.set_option("server.address", None)
