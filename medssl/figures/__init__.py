"""Tidy frames in, Altair charts out. No file is read here, no statistic computed, and no request leaves the machine."""

from medssl.figures.curve import label_efficiency, y_domain
from medssl.figures.differences import differences
from medssl.figures.files import save, to_png, to_svg
from medssl.figures.history import history, overlaid
from medssl.figures.relative import relative
from medssl.figures.sheet import Section, panel_png, save_sheet
from medssl.figures.style import arm_colours, arm_shapes
from medssl.figures.words import budget_key, budget_name, metric_name

__all__ = [
    "Section",
    "arm_colours",
    "arm_shapes",
    "budget_key",
    "budget_name",
    "differences",
    "history",
    "label_efficiency",
    "metric_name",
    "overlaid",
    "panel_png",
    "relative",
    "save",
    "save_sheet",
    "to_png",
    "to_svg",
    "y_domain",
]
