"""Charts of units and embeddings: what they draw, that they can be exported, and which colours they take."""

import numpy as np
import pandas as pd
import pytest

from medssl.figures import to_png, to_svg
from medssl.figures.embedding import NOT_KNOWN, OTHERS, embedding_map, readings
from medssl.figures.units import calibration_curve, confusion_matrix, roc_curve, unit_strip

CONFUSION = pd.DataFrame(
    [("a", "a", 20.5, 0.82), ("a", "b", 4.5, 0.18), ("b", "a", 3.0, 0.1), ("b", "b", 27.0, 0.9)],
    columns=["truth", "predicted", "units", "share"],
)
ROC = pd.DataFrame(
    {"false_positive": [0, 0.5, 1], "sensitivity": [0.2, 0.8, 1], "low": [0, 0.7, 1], "high": [0.4, 0.9, 1]}
)
CALIBRATION = pd.DataFrame(
    {"predicted": [0.2, 0.8], "observed": [0.3, 0.7], "low": [0.2, 0.6], "high": [0.4, 0.8], "units": [9, 20]}
)
SCORES = pd.DataFrame(
    [("simclr", 0, d, c, s) for d in range(3) for c, s in (("a", 0.1 * d), ("b", 1 - 0.1 * d))],
    columns=["arm", "run", "draw", "cls", "score"],
)


def points(values, seed=0):
    rng = np.random.default_rng(seed)
    n = len(values)
    keys = [f"s{i}" for i in range(n)]
    return pd.DataFrame(
        {"x": rng.normal(size=n), "y": rng.normal(size=n), "value": values, "scan": keys, "patient": keys}
    )


def scale_of(chart, channel="color"):
    return chart.to_dict()["layer"][0]["encoding"][channel]["scale"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "make",
    [
        lambda theme: confusion_matrix(CONFUSION, title="Confusion", theme=theme),
        lambda theme: roc_curve(ROC, "#1f6fd0", title="ROC", theme=theme),
        lambda theme: calibration_curve(CALIBRATION, "#1f6fd0", theme=theme),
        lambda theme: unit_strip(SCORES, ["simclr", "scratch"], "a", theme=theme),
        lambda theme: embedding_map(points(["a", "b", None]), "label", chosen="s1", title="Map", theme=theme),
        lambda theme: readings(
            pd.DataFrame([("vendor", "scanner", 0.9, 0.85, 0.94, "GE, Siemens", 200, 100)],
                         columns=["fact", "kind", "auc", "low", "high", "values", "scans", "patients"]),
            theme=theme,
        ),
    ],
)  # fmt: skip
def test_charts_are_drawn_offline_without_stray_axis_titles(make, theme):
    svg = to_svg(make(theme))
    assert "<svg" in svg and "undefined" not in svg and "NaN" not in svg
    for stray in (">a, ", ">b, ", ">low", ">, "):
        assert stray not in svg


def test_a_png_comes_out():
    assert to_png(confusion_matrix(CONFUSION), scale=1).startswith(b"\x89PNG")


def test_values_keep_their_colours_and_the_unknown_is_gray():
    scale = scale_of(embedding_map(points(["b", None, "a", "b"]), "label"))
    assert scale["domain"] == ["a", "b", NOT_KNOWN] and len(set(scale["range"])) == 3
    again = scale_of(embedding_map(points(["a", "b", "b"]), "label"))
    assert again["range"] == scale["range"][:2]


def test_of_very_many_values_the_most_frequent_have_colours_and_numbers_are_in_order():
    many = [f"p{i}" for i in range(12) for _ in range(12 - i)]
    domain = scale_of(embedding_map(points(many), "patient"))["domain"]
    assert len(domain) == 8 and domain[-1] == OTHERS and "p0" in domain and "p11" not in domain
    bands = scale_of(embedding_map(points(["10 to 20 mm", "2 to 10 mm"]), "spacing"))["domain"]
    assert bands == ["2 to 10 mm", "10 to 20 mm"]


def test_a_unit_is_drawn_for_its_true_class_alone():
    drawn = unit_strip(SCORES, ["simclr", "scratch"], "a").to_dict()
    frame = next(rows for rows in drawn["datasets"].values() if len(rows) == 3)
    assert {row["score"] for row in frame} == {0.0, 0.1, 0.2}
