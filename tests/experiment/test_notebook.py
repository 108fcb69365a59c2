"""Results, cohorts and encoders as a notebook shows them."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import write_experiment

from medssl.display import card
from medssl.errors import UserError
from medssl.experiment import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results.open(write_experiment(tmp_path_factory.mktemp("w")))


def test_the_curve_is_a_chart_of_the_chosen_arms(results):
    spec = results.curve(arms=["simclr", "scratch"]).to_dict()
    drawn = {row["arm"] for rows in spec["datasets"].values() for row in rows if "arm" in row}
    assert drawn == {"simclr", "scratch"} and "Synthetic" in str(spec["title"])
    assert "Accuracy" in str(results.curve("accuracy").to_dict())


def test_a_comparison_reads_in_one_table(results):
    table = results.compare("simclr", "scratch")
    assert list(table.index) == [2, 5, "all"]
    assert list(table.columns) == ["labels", "simclr", "scratch", "difference", "low", "high", "p", "verdict"]
    assert np.allclose(table["difference"], table["simclr"] - table["scratch"], atol=2e-4)
    assert table.columns.name == "simclr against scratch, AUC" and set(table["labels"]) == set(
        results.label_counts().values()
    )
    assert results.compare("simclr").equals(table), "the main baseline"
    assert not results.compare("simclr", "pixels", "accuracy").equals(table)


def test_the_frame_holds_what_the_tables_hold(results):
    frame = results.to_frame()
    assert list(frame.columns) == ["labels", "score", "low", "high", "difference", "verdict"]
    scores = results.scores()
    mine = scores[(scores["arm"] == "simclr") & (scores["metric"] == "auc")]
    assert np.allclose(frame.loc["simclr", "score"], mine["score"], atol=1e-4)
    assert frame.loc["scratch", "difference"].isna().all(), "the baseline has no difference to itself"
    assert len(frame) == 4 * 3 and not results.to_frame("accuracy").equals(frame)


@pytest.mark.parametrize(
    "ask",
    [
        lambda r: r.compare("simclt"),
        lambda r: r.compare("simclr", "rotation"),
        lambda r: r.compare("simclr", "scratch", "acuracy"),
        lambda r: r.curve("auk"),
        lambda r: r.curve(arms=["simclt"]),
        lambda r: r.to_frame("auk"),
    ],
)
def test_wrong_names_are_said_with_the_known_ones(results, ask):
    with pytest.raises(UserError, match="Known: "):
        ask(results)


def test_results_show_state_verdict_and_scores(results, tmp_path):
    shown = results._repr_html_()
    assert "Synthetic &lt;experiment&gt; &amp; more" in shown and "finished" in shown
    assert "With 5 labels a class" in shown and "With 2 labels a class" not in shown, "the claim's sentence alone"
    assert shown.count("<tr>") == 1 + 4 and "simclr" in shown
    for patient in set(results.evidence()["patient"]):
        assert patient not in shown
    folder = write_experiment(tmp_path)
    (folder / "jobs.sqlite").unlink()
    assert "not started" in Results.open(folder)._repr_html_()


def test_cohorts_and_encoders_show_what_they_are(finished):
    from medssl.cohort import Cohort
    from medssl.encoders import create_encoder

    cohort = Cohort.open(finished[0].cohort_folder)
    shown = cohort._repr_html_()
    assert "160 scans of 80 patients" in shown and "label" in shown and "PATIENT" not in shown
    for name in (*cohort.scans()["scan"], *cohort.scans()["patient"]):
        assert name not in shown
    encoder = create_encoder("small")
    shown = encoder._repr_html_()
    assert "Encoder small" in shown and "2-D, 1 channel in" in shown and f"into {encoder.embed_dim} numbers" in shown
    assert shown.count("<tr>") == 1 + len(encoder.channels)


def test_all_text_is_escaped():
    shown = card("<b>", ["<i>", ""], ["<u>"], [["<s>"]])
    assert not any(tag in shown for tag in ("<b>", "<i>", "<u>", "<s>")) and "&lt;s&gt;" in shown
