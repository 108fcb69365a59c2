"""Curves relative to an arm, lines across, axes, and colours that depend on the whole experiment."""

from __future__ import annotations

import json

import pytest
from synthetic import ARMS, LABEL_COUNTS, differences, scores

from medssl import figures
from medssl.errors import UserError


def layers(chart, mark: str) -> list[dict]:
    return [layer for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == mark]


def rows(chart, layer: dict) -> list[dict]:
    spec = chart.to_dict()
    return spec["datasets"][(layer.get("data") or spec["data"])["name"]]


def test_differences_are_drawn_with_their_bands_around_zero():
    chart = figures.relative(differences(), scores(), LABEL_COUNTS, "auc", "scratch")
    drawn = {(r["arm"], r["labels"]): r for r in rows(chart, layers(chart, "line")[-1])}
    table = differences()
    one = table[(table["arm"] == "simclr") & (table["budget"] == 5) & (table["metric"] == "auc")].iloc[0]
    shown = drawn["simclr", 15]
    assert (shown["score"], shown["low"], shown["high"]) == pytest.approx((one["difference"], one["low"], one["high"]))
    assert {arm for arm, _ in drawn} == set(ARMS) - {"scratch"}
    assert [r["score"] for r in rows(chart, layers(chart, "rule")[0])] == [0]
    low, high = layers(chart, "line")[-1]["encoding"]["y"]["scale"]["domain"]
    assert low < 0 < high < 0.5
    assert "difference to scratch" in json.dumps(chart.to_dict()["title"])


def test_relative_curves_keep_the_colours_of_the_scores():
    def colours(chart):
        scale = layers(chart, "line")[-1]["encoding"]["color"]["scale"]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    arms = [*ARMS, "aaa_other"]
    whole = colours(figures.label_efficiency(scores(arms), LABEL_COUNTS))
    against = colours(figures.relative(differences(arms), scores(arms), LABEL_COUNTS, "auc", "scratch"))
    assert against == {arm: whole[arm] for arm in against}
    part = scores(arms)
    unfinished = figures.label_efficiency(part[part["arm"] == "aaa_other"], LABEL_COUNTS, everyone=arms)
    assert colours(unfinished) == {"aaa_other": whole["aaa_other"]}


def test_a_baseline_that_was_not_compared_is_said():
    with pytest.raises(UserError, match="no scores to draw"):
        figures.relative(differences(), scores(), LABEL_COUNTS, "auc", "pixels")


def test_the_full_label_line_stands_at_the_arms_score_with_all_labels():
    table = scores()
    chart = figures.label_efficiency(table, LABEL_COUNTS, arms=["pixels"], full="imagenet_simclr")
    expected = table.query("arm == 'imagenet_simclr' and budget == 'all' and metric == 'auc'")["score"].item()
    (line,) = (layer for layer in layers(chart, "rule") if "words" in str(rows(chart, layer)[:1]))
    assert rows(chart, line)[0]["score"] == pytest.approx(expected)
    assert rows(chart, line)[0]["words"] == "imagenet_simclr with all labels"
    assert layers(chart, "line")[-1]["encoding"]["y"]["scale"]["domain"][1] > expected, "it is inside the picture"


def test_a_linear_axis_names_no_budget_over_another():
    log, linear = (figures.label_efficiency(scores(), LABEL_COUNTS, log=on).to_dict() for on in (True, False))
    axes = [
        next(la["encoding"]["x"] for la in spec["layer"] if "axis" in la["encoding"]["x"]) for spec in (log, linear)
    ]
    assert [axis["scale"]["type"] for axis in axes] == ["log", "linear"]
    assert axes[1]["scale"]["domain"][0] == 0
    named = axes[1]["axis"]["labelExpr"]
    assert "['all', '(612)']" in named and "datum.value == 6 ? ''" in named and "['2'," in axes[0]["axis"]["labelExpr"]


def test_charts_that_are_compared_share_a_domain():
    chart = figures.label_efficiency(scores(), LABEL_COUNTS, domain=(0.1, 0.9))
    assert layers(chart, "line")[-1]["encoding"]["y"]["scale"]["domain"] == [0.1, 0.9]
