"""How a scan becomes training samples."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from medssl.config.base import Strict
from medssl.errors import UserError


class View(Strict):
    """How a scan becomes training samples. Its hash names the samples, and it travels with every checkpoint.

    Attributes:
        size: pixels a side (voxels in 3-D).
        spatial_dims: 2 for images and slices of volumes, 3 for patches of volumes.
        plane: which slices of a volume, by the patient's axes.
        slices: at most this many slices of a volume, evenly spaced; None takes all.
        spacing: mm a pixel before cropping to `size`; None scales the whole field of view to `size`.
        patches: in 3-D, at most this many patches of a volume, evenly placed, of `size` voxels of `spacing` mm a side;
            None takes one, about the centre.
        intensity: `auto` takes a CT window for HU, the full range for 8-bit images, percentiles otherwise.
        window: (low, high) in the scan's unit, with `intensity: window`; for CT in HU.
        percentiles: (low, high) that become black and white, with `intensity: percentiles`.
        fit: `crop` cuts the centre square, `stretch` keeps all and changes the aspect, `pad` adds black bars.
        channels: 1 for gray, 3 for colour; with `contrasts` or `windows` their number.
        contrasts: scans of one exam as channels: for each, attributes of the catalog that name it, such as
            `[{bids_suffix: T1w}, {bids_suffix: T2w}]`. All must lie on one grid. A sample has the first one's scan id.
        windows: several (low, high) as channels of one scan, in its unit; for CT in HU.
    """

    size: int = Field(64, ge=8, le=1024)
    spatial_dims: Literal[2, 3] = 2
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    slices: int | None = Field(None, ge=1)
    spacing: float | None = Field(None, gt=0)
    patches: int | None = Field(None, ge=1)
    intensity: Literal["auto", "window", "percentiles", "range"] = "auto"
    window: tuple[float, float] = (-160.0, 240.0)
    percentiles: tuple[float, float] = (0.5, 99.5)
    fit: Literal["crop", "stretch", "pad"] = "crop"
    channels: int = Field(1, ge=1, le=8)
    contrasts: tuple[dict[str, str | float], ...] | None = Field(None, min_length=2)
    windows: tuple[tuple[float, float], ...] | None = Field(None, min_length=2)

    def __hash__(self) -> int:
        """Views are keys of samples; what names contrasts is a dict, which has no hash of its own."""
        return hash(self.model_dump_json())

    @property
    def colour(self) -> bool:
        """Whether the channels are red, green and blue."""
        return self.channels == 3 and self.contrasts is None and self.windows is None

    @model_validator(mode="before")
    @classmethod
    def _as_many_channels(cls, raw: Any) -> Any:
        named = [raw.get(key) for key in ("contrasts", "windows")] if isinstance(raw, dict) else []
        count = next((len(value) for value in named if isinstance(value, list | tuple)), None)
        return raw if count is None else {"channels": count, **raw}

    @model_validator(mode="after")
    def _channels_are_one_thing(self) -> View:
        if self.contrasts and self.windows:
            raise UserError("channels are either contrasts or windows", "view", "Leave one of them out.")
        named: dict[str, tuple[Any, ...] | None] = {"contrasts": self.contrasts, "windows": self.windows}
        for name, value in named.items():
            if value is None:
                continue
            if any(value.count(one) > 1 for one in value):
                raise UserError(f"two of the {name} are the same", f"view.{name}")
            if len(value) != self.channels:
                fix = "Leave view.channels out."
                raise UserError(f"{len(value)} {name} are not {self.channels} channels", "view.channels", fix)
        return self

    @model_validator(mode="after")
    def _black_below_white(self) -> View:
        pairs = {"window": [self.window], "percentiles": [self.percentiles], "windows": self.windows or ()}
        for name, ranges in pairs.items():
            if any(low >= high for low, high in ranges):
                raise UserError("a range is (low, high), low below high", f"view.{name}")
        return self

    @model_validator(mode="after")
    def _patches_need_voxels(self) -> View:
        if self.patches is not None and (self.spatial_dims != 3 or self.spacing is None):
            fix = "Set spatial_dims: 3 and spacing, or leave patches out."
            raise UserError("patches are cut from volumes at a spacing in mm", "view.patches", fix)
        return self
