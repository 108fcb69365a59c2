"""Batched views on the device: every row of a batch has its own random parameters, drawn by its own key.

generator = RowGenerator(seed, step, rows)
view = make_view(images, preset("XR").views, generator)      # (N, C, H, W) in [0, 1] -> the same
"""

from medssl.augment.presets import PRESETS, Preset, preset, preset_for
from medssl.augment.random import RowGenerator
from medssl.augment.views import Views, make_view

__all__ = ["PRESETS", "Preset", "RowGenerator", "Views", "make_view", "preset", "preset_for"]
