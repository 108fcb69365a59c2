"""Charts as PNG and SVG, drawn by vl-convert inside this process: nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt

from medssl.errors import UserError
from medssl.workspace import atomic

PRINT_SCALE = 2  # pixels of a PNG for one of the chart: 192 dots an inch


def save(chart: Any, path: Path | str) -> Path:
    """Write a chart as `.png` or `.svg`; whole or not at all."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg"):
        raise UserError("a chart is saved as .png or .svg", path.name, "Give the file one of these endings.")
    content = to_png(chart) if path.suffix.lower() == ".png" else to_svg(chart).encode()
    with atomic(path) as fresh:
        fresh.write_bytes(content)
    return path


def to_svg(chart: Any) -> str:
    """The chart as SVG text that refers to nothing outside itself."""
    import vl_convert

    return vl_convert.vegalite_to_svg(_spec(chart), vl_version=_version(), allowed_base_urls=[])


def to_png(chart: Any, scale: float = PRINT_SCALE) -> bytes:
    """The chart as the bytes of a PNG."""
    import vl_convert

    return vl_convert.vegalite_to_png(_spec(chart), vl_version=_version(), scale=scale, allowed_base_urls=[])


def _spec(chart: Any) -> dict[str, Any]:
    with alt.data_transformers.enable("default", max_rows=None):
        return chart.to_dict()


def _version() -> str:
    """The newest Vega-Lite that vl-convert brings, no newer than the one that Altair wrote the chart for."""
    import vl_convert

    wanted = tuple(int(p) for p in alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    brought = [tuple(int(p) for p in v.split(".")) for v in vl_convert.get_vegalite_versions()]
    fitting = [v for v in brought if v <= wanted] or brought
    return "v" + ".".join(map(str, max(fitting)))
