"""Views by modality. Each preset says why; what could destroy a label is off: up-down flips wherever the patient has
an up and a down, left-right flips wherever the side may be the finding (`flip=true` turns them on)."""

from __future__ import annotations

from typing import NamedTuple

from medssl.augment.views import Views
from medssl.errors import unknown


class Preset(NamedTuple):
    views: Views
    reason: str


PRESETS: dict[str, Preset] = {
    "XR": Preset(
        Views(crop=(0.3, 1.0), rotation=10, brightness=0.15, contrast=0.5, gamma=0.5, blur=0.5, noise=0.03),
        "exposure and post-processing differ between X-ray units; the heart has a side, so no left-right flip",
    ),
    "CT": Preset(
        Views(
            crop=(0.3, 1.0), rotation=10, brightness=0.1, contrast=0.2, gamma=0.2, blur=0.5, noise=0.05, window=0.2,
        ),
        "HU are calibrated, so brightness changes little, as another reader's window would; dose and kernel change "
        "noise and blur",
    ),
    "MR": Preset(
        Views(
            crop=(0.3, 1.0), rotation=10, brightness=0.1, contrast=0.5, gamma=0.5, blur=0.5, noise=0.05, bias_field=0.3,
        ),
        "MR units are arbitrary, so contrast and gamma change much; receive coils shade the image smoothly; organs "
        "have sides, so no left-right flip",
    ),
    "US": Preset(
        Views(crop=(0.3, 1.0), rotation=10, flip=True, brightness=0.15, contrast=0.4, gamma=0.4, blur=0.3),
        "gain and depth are set by hand and the probe may be turned, so left-right flips; depth stays downwards",
    ),
    "microscopy": Preset(
        Views(
            crop=(0.3, 1.0), rotation=180, flip=True, flip_vertical=True, brightness=0.1, contrast=0.3,
            blur=0.3, colour=0.2, gray=0.1,
        ),
        "a slide has no up and no side; stains differ between laboratories, so each colour changes by itself",
    ),
    "colour": Preset(
        Views(crop=(0.3, 1.0), rotation=20, brightness=0.1, contrast=0.4, blur=0.3, colour=0.2, gray=0.2),
        "light and camera change colours; left-right flips are off because eyes and limbs have sides",
    ),
    "general": Preset(
        Views(crop=(0.3, 1.0), rotation=10, brightness=0.15, contrast=0.4, gamma=0.4, blur=0.5, noise=0.03),
        "nothing is known of the modality, so everything changes moderately and no flip may destroy a side",
    ),
}  # fmt: skip

_BY_MODALITY = {  # DICOM PS3.3 C.7.3.1.1.1 defined terms
    **dict.fromkeys(("CR", "DX", "XR", "RG", "MG", "RF", "XA", "IO", "PX"), "XR"),
    **dict.fromkeys(("CT", "PT"), "CT"),
    **dict.fromkeys(("MR",), "MR"),
    **dict.fromkeys(("US", "IVUS", "BMUS"), "US"),
    **dict.fromkeys(("SM", "GM"), "microscopy"),
    **dict.fromkeys(("XC", "ES", "OP", "OPT", "DMS"), "colour"),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UserError: no such preset.
    """
    if name not in PRESETS:
        raise unknown("preset", name, list(PRESETS), "preset")
    return PRESETS[name]


def preset_for(modality: str, colour: bool = False) -> str:
    """The name of the preset for a DICOM modality; colour images of an unknown one count as photographs."""
    return _BY_MODALITY.get(modality.upper(), "colour" if colour else "general")
