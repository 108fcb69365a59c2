"""The charts say what they should: bands, explicit domains, open markers, steady colours, files that stand alone."""

from __future__ import annotations

import io
import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from synthetic import ARMS, LABEL_COUNTS, differences, histories, scores

from medssl import figures
from medssl.errors import UserError
from medssl.figures import style
from medssl.figures.style import PALETTE


def layers(chart, mark: str) -> list[dict]:
    return [layer for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == mark]


def rows(chart, layer: dict) -> list[dict]:
    return chart.to_dict()["datasets"][layer["data"]["name"]]


def drawn(chart) -> pd.DataFrame:
    """Rows behind the lines."""
    line = layers(chart, "line")[-1]
    spec = chart.to_dict()
    return pd.DataFrame(spec["datasets"][(line.get("data") or spec["data"])["name"]])


def test_curve_has_bands_only_where_an_interval_is_estimable():
    chart = figures.label_efficiency(scores(), LABEL_COUNTS)
    (band,) = layers(chart, "area")
    assert {"y", "y2"} <= set(band["encoding"])
    covered = {(r["arm"], r["labels"]) for r in rows(chart, band)}
    assert ("simclr", 6) in covered
    assert ("simclr", 612) not in covered  # "all" has no interval
    assert not any(arm == "pixels" for arm, _ in covered)
    assert all(r["low"] is not None and r["high"] is not None for r in rows(chart, band))


def test_band_breaks_at_a_gap_instead_of_bridging_it():
    table = scores(["simclr"], ("auc",))
    table.loc[table["budget"] == 10, ["low", "high"]] = np.nan
    table.loc[table["budget"] == 50, ["low", "high"]] = np.nan
    chart = figures.label_efficiency(table, LABEL_COUNTS)
    (band,) = layers(chart, "area")
    assert {r["labels"] for r in rows(chart, band)} == {6, 15}
    alone = next(r for r in layers(chart, "rule") if r["encoding"].get("y2", {}).get("field") == "high")
    assert {r["labels"] for r in rows(chart, alone)} == {75}  # 25 a class stands alone: a bar, not a band


def test_markers_are_open_where_nothing_is_estimable():
    frame = drawn(figures.label_efficiency(scores(), LABEL_COUNTS))
    assert not frame.loc[frame["arm"] == "pixels", "estimable"].any()
    assert set(frame.loc[~frame["estimable"], "interval"]) == {"not estimable"}
    points = layers(figures.label_efficiency(scores(), LABEL_COUNTS), "point")
    assert any("estimable" in json.dumps(p["encoding"].get("fill", "")) for p in points)


def test_domains_are_explicit_and_hold_everything():
    chart = figures.label_efficiency(scores(), LABEL_COUNTS)
    line = layers(chart, "line")[-1]["encoding"]
    assert line["x"]["scale"]["type"] == "log"
    low, high = line["x"]["scale"]["domain"]
    assert low < 6 and high > 612
    assert line["x"]["axis"]["values"] == [6, 15, 30, 75, 150, 612]
    assert "'all'" in line["x"]["axis"]["labelExpr"]
    shown = scores().query("metric == 'auc'")
    bottom, top = line["y"]["scale"]["domain"]
    assert bottom < shown[["score", "low"]].min().min() and top > shown[["score", "high"]].max().max()
    assert top <= 1.05


def test_arms_switched_off_leave_the_others_their_colours():
    everyone = figures.label_efficiency(scores(), LABEL_COUNTS)
    some = figures.label_efficiency(scores(), LABEL_COUNTS, arms=["simclr", "scratch"])

    def colours(chart):
        scale = layers(chart, "line")[-1]["encoding"]["color"]["scale"]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    assert set(colours(some)) == {"simclr", "scratch"}
    assert all(colours(everyone)[arm] == colour for arm, colour in colours(some).items())


def test_names_at_the_line_ends_never_touch():
    table = scores()
    table["score"] = 0.9  # all lines end in one point
    chart = figures.label_efficiency(table, LABEL_COUNTS, height=380)
    (text,) = layers(chart, "text")
    low, high = layers(chart, "line")[-1]["encoding"]["y"]["scale"]["domain"]
    pixels = sorted(380 * (high - r["name_at"]) / (high - low) for r in rows(chart, text))
    assert len(pixels) == len(ARMS)
    assert min(np.diff(pixels)) > 16
    assert pixels[0] >= -1 and pixels[-1] <= 381


def test_colours_are_steady_distinct_and_fit_unknown_names():
    names = ["simclr", "my_arm", "zeta", "scratch"]
    colours = figures.arm_colours(names)
    assert len(set(colours.values())) == 4
    assert colours == figures.arm_colours(reversed(names))
    assert colours["simclr"] == PALETTE["simclr"]
    many = figures.arm_colours([f"arm{i}" for i in range(20)])
    assert len(many) == 20 and set(many.values()) == set(PALETTE.values())


MACHADO = {  # severity 1.0, on linear RGB
    "normal": np.eye(3),
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("sight", sorted(MACHADO))
def test_palette_stays_apart_for_colour_blind_readers(sight):
    def lab(colour: str) -> np.ndarray:
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen = np.clip(np.array(MACHADO[sight]) @ linear, 0, 1)
        to_xyz = np.array(
            [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
        )
        f = np.cbrt(to_xyz @ seen / np.array([0.95047, 1, 1.08883]))
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    apart = [np.linalg.norm(lab(a) - lab(b)) for a, b in itertools.combinations(PALETTE.values(), 2)]
    assert min(apart) > 16


def test_a_score_that_is_no_number_is_not_drawn():
    table, gaps = scores(), differences()
    table.loc[(table["arm"] == "simclr") & (table["budget"] == 5), ["score", "low", "high"]] = float("nan")
    gaps.loc[(gaps["arm"] == "simclr") & (gaps["budget"] == 5), ["difference", "low", "high"]] = float("nan")
    for chart in (figures.label_efficiency(table, LABEL_COUNTS), figures.differences(gaps)):
        points = [row for rows in chart.to_dict()["datasets"].values() for row in rows if row.get("arm") == "simclr"]
        assert points and not any(row.get("labels") == 15 or row.get("budget") == "5" for row in points)


def test_differences_show_zero_intervals_and_mark_comparisons_across_encoders():
    chart = figures.differences(differences())
    assert chart.to_dict()["layer"][0]["mark"]["type"] == "rule"  # the zero line
    points = layers(chart, "point")[0]
    low, high = points["encoding"]["y"]["scale"]["domain"]
    assert low < 0 < high
    labels = points["encoding"]["color"]["scale"]["domain"]
    assert "imagenet †" in labels and "simclr" in labels and "scratch" not in labels
    frame = pd.DataFrame(rows(chart, points))
    assert not frame.loc[frame["budget"] == "all", "sure"].any()
    bars = layers(chart, "rule")[1]
    assert all(r["low"] is not None for r in rows(chart, bars))


def test_history_gives_each_run_its_own_scale_and_stays_small():
    spec = figures.history(histories()).to_dict()
    domains = [c["encoding"]["y"]["scale"]["domain"] for c in spec["concat"]]
    assert len(domains) == 3 and len({tuple(d) for d in domains}) == 3
    assert all(len(values) <= 150 for values in spec["datasets"].values())


def test_history_survives_losses_that_are_not_numbers():
    frame = pd.DataFrame({"step": [1, 2, 3], "loss": [1.0, np.nan, np.inf]})
    spec = figures.history({"rotation": frame}).to_dict()
    assert [len(v) for v in spec["datasets"].values()] == [1]


def test_history_shows_what_a_value_is_held_against():
    levels = {"rotation": {"untrained": 1.386, "alarm below": 0.06}}
    spec = figures.history(histories(), only="rotation", levels=levels).to_dict()
    rows = [row for values in spec["datasets"].values() for row in values]
    assert {row["words"]: row["value"] for row in rows if "words" in row} == levels["rotation"]
    low, high = spec["layer"][1]["encoding"]["y"]["scale"]["domain"]
    assert low < 0.06 and high > 1.386, "the lines are in the picture"
    assert "layer" not in figures.history(histories(), only="simclr", levels=levels).to_dict()


def test_runs_in_one_chart_are_told_apart():
    logs = histories() | {"rotation_2": histories()["rotation"], "empty": pd.DataFrame()}
    spec = figures.overlaid(logs).to_dict()
    colour, dash = (spec["encoding"][key]["scale"] for key in ("color", "strokeDash"))
    assert colour["domain"] == dash["domain"] == ["rotation", "inpainting", "simclr", "rotation_2"]
    assert len({(c, str(d)) for c, d in zip(colour["range"], dash["range"], strict=True)}) == 4
    (values,) = spec["datasets"].values()
    assert len(values) <= 4 * 150


def test_a_panel_keeps_its_pixels():
    panel = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    with Image.open(io.BytesIO(figures.panel_png(panel))) as image:
        assert image.size == (4, 3) and image.mode == "RGB" and not image.info
        np.testing.assert_array_equal(np.asarray(image)[..., 0], np.rint(panel[0] * 255))
    with Image.open(io.BytesIO(figures.panel_png(np.stack([panel[0]] * 3)))) as image:
        assert image.size == (4, 3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.label_efficiency(scores(), LABEL_COUNTS, metric="no_such"),
        lambda: figures.label_efficiency(scores(), LABEL_COUNTS, arms=[]),
        lambda: figures.differences(differences(), arms=["scratch"]),
        lambda: figures.differences(differences().iloc[:0]),
        lambda: figures.history({}),
        lambda: figures.overlaid({}),
    ],
)
def test_nothing_to_draw_is_said_in_a_sentence(draw):
    with pytest.raises(UserError, match="no "):
        draw()


def test_files_are_written_and_stand_alone(tmp_path):
    chart = figures.label_efficiency(scores(), LABEL_COUNTS)
    png, svg = figures.save(chart, tmp_path / "curve.png"), figures.save(chart, tmp_path / "curve.svg")
    assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 20_000
    text = svg.read_text()
    assert text.startswith("<svg") and "simclr" in text and "NaN" not in text
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.png", "curve.svg"]
    with pytest.raises(UserError, match="one of these endings"):
        figures.save(chart, tmp_path / "curve.gif")


def test_dark_charts_have_light_text():
    background = figures.label_efficiency(scores(), LABEL_COUNTS, theme="dark").to_dict()["background"]
    assert background != figures.label_efficiency(scores(), LABEL_COUNTS).to_dict()["background"]


def test_any_number_of_arms_can_be_told_apart():
    arms = [*style.PALETTE, "pixels_propagate", "simclr_probe", "simclr_finetune", "imagenet_224", "new", "other"]
    colours, shapes, dashes = style.arm_colours(arms), style.arm_shapes(arms), style.arm_dashes(arms)
    assert len({(colours[a], shapes[a]) for a in arms}) == len(arms)
    assert colours["simclr_probe"] == colours["simclr"] and dashes["simclr_probe"] != dashes["simclr"]
    assert all(dashes[a] == style.DASHES[0] for a in style.PALETTE)
    few = ["simclr", "simclr_probe", "new"]
    assert len(set(style.arm_colours(few).values())) == 3  # while hues are free, nobody shares one
