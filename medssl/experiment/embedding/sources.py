"""Which encoders a cohort can be looked at with: every pretrained one of the workspace, ImageNet, random, pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.cohort import Cohort
from medssl.config import View, validate
from medssl.errors import UserError
from medssl.transfer import PIXELS
from medssl.workspace import Workspace, digest

IMAGENET, NATIVE = "tf_efficientnet_lite0", 224  # the network whose weights are installed, and pixels it was trained at
SEED = 0  # of random weights


@dataclass(frozen=True)
class Source:
    """An encoder that is not made yet; opening none of them loads torch.

    Attributes:
        key: names it in a link.
        label: for people.
        identity: differs with everything that decides its weights.
        encoder, init: for `create_encoder`; `encoder` may be `pixels`.
        view: how it is shown scans.
        checkpoint: of a pretrained one.
        cohort: that it was pretrained on, by name.
    """

    key: str
    label: str
    identity: str
    encoder: str
    init: str
    view: View
    checkpoint: Path | None = None
    cohort: str = ""

    def make(self) -> Any:
        """The encoder; not for pixels.

        Raises:
            UserError: its file is damaged.
        """
        from medssl.encoders import create_encoder, load_checkpoint

        if self.checkpoint:
            return load_checkpoint(self.checkpoint).encoder
        return create_encoder(self.encoder, self.view.spatial_dims, self.view.channels, self.init, SEED)


def sources(workspace: Workspace, cohort: Cohort, view: View) -> list[Source]:
    """Those that were pretrained on this cohort first, then the others, newest ahead; last those that know nothing.

    Args:
        view: how encoders that bring no View of their own are shown scans.
    """
    found = [source for folder in workspace.encoders() if (source := _pretrained(folder)) is not None]
    found.sort(key=lambda source: (source.cohort != cohort.name, -_made(source), source.key))
    twice = {s.label for s in found if sum(o.label == s.label for o in found) > 1}
    found = [_told_apart(source) if source.label in twice else source for source in found]
    return [*found, *_untrained(view)]


def base_view(cohort: Cohort) -> View:
    """64 pixels; in colour where all scans are, as for pretraining."""
    scans = len(cohort)
    colour = scans > 0 and cohort.count(kind="colour") + cohort.count(kind="colour_volume") == scans
    return View(channels=3 if colour else 1)


def _pretrained(folder: Path) -> Source | None:
    """The finished encoder in this folder, or None where it is not finished or not readable."""
    checkpoint = folder / "checkpoint.safetensors"
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        identity = run["identity"]
        view = validate(View, identity["view"], folder.name)
        encoder, task = str(identity["encoder"]), str(identity["task"])
        label = f"{task} on {run.get('cohort', '?')} ({encoder}, {view.size} px, {int(identity['steps']):,} steps)"
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
    if not checkpoint.is_file():
        return None
    key, cohort = folder.name, str(run.get("cohort", ""))
    return Source(key, label, digest([key, identity]), encoder, "checkpoint", view, checkpoint, cohort)


def _made(source: Source) -> float:
    """When its checkpoint was written."""
    return source.checkpoint.stat().st_mtime if source.checkpoint else 0.0


def _told_apart(source: Source) -> Source:
    from dataclasses import replace

    return replace(source, label=f"{source.label} · {source.key[-5:]}")


def _untrained(view: View) -> list[Source]:
    dims, size = view.spatial_dims, view.size
    random = Source("random", f"random weights (small, {size} px)", f"small random {SEED}", "small", "random", view)
    if dims == 3:
        return [random]
    native = view.model_copy(update={"size": NATIVE, "spacing": view.spacing and view.spacing * size / NATIVE})
    found = []
    if view.channels in (1, 3):
        for key, shown in (("imagenet", view), (f"imagenet-{NATIVE}", native)):
            if (key, size) != ("imagenet", NATIVE):
                label = f"ImageNet ({IMAGENET}, {shown.size} px)"
                found.append(Source(key, label, f"imagenet {IMAGENET}", IMAGENET, "imagenet", shown))
    found.append(random)
    if size % 16 == 0:
        found.append(Source(PIXELS, "pixels (16 × 16, no encoder)", PIXELS, PIXELS, "", view))
    return found
