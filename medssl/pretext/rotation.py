"""Rotation: which way up is this image? (Gidaris 2018, "Unsupervised representation learning by predicting image
rotations".)

Shortcuts and how they are closed:
- Letterbox bars of a padded image show the angle: a View with `fit: pad` is refused.
- Turning by a multiple of 90 degrees moves pixels and interpolates none, so no resampling marks and no empty corners.
- The border of the image (collimation, burned-in side markers) stays in the same place in every scan: each image is
  cropped at random first, and `mask: circle` hides the corners, where markers stand.
- An up-down flip looks like a turn by 180 degrees: it is off whatever the preset says.
- Thick slices blur one axis of a volume, which would tell how a cube was tipped over, and resampling does not undo it:
  by default volumes turn in the axial plane alone, and `axes: all` (24 turns) is for scans whose voxels are about as
  thick as they are wide; others are refused.
- A frame that is no square, stretched to one, has finer pixels along one side, which tells a quarter turn: refused.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.augment import RowGenerator
from medssl.config import View
from medssl.encoders import Encoder
from medssl.errors import UserError
from medssl.pretext.base import Batch, PretextTask, TaskSettings
from medssl.pretext.pictures import Picture, pictures, verdict
from medssl.pretext.questions import Question, worded

if TYPE_CHECKING:
    import pandas as pd

ANGLES, CUBE = 4, 24
UNEVEN, UNEVEN_FRAME = 1.5, 1.1  # sides of voxels and of frames; from noise alone the turn is read from 4 : 1 and 3 : 2
TURNS = "not at all", "to the left", "upside down", "to the right"


class Settings(TaskSettings):
    """
    Attributes:
        turns: `all` shows each image in its four rotations at once, as the paper does; `one` shows one at random.
        mask: `circle` hides all but the inscribed circle (of volumes the cylinder, with `axes: all` the ball).
        axes: of volumes, `axial` turns in the axial plane (4 turns), `all` turns a cube in every way (24).
    """

    turns: Literal["all", "one"] = "one"
    mask: Literal["none", "circle"] = "none"
    axes: Literal["axial", "all"] = "axial"


def _frame(scan: dict[Hashable, Any]) -> list[float]:
    """Height and width of an image, or of a volume's axial slice, in mm where its spacing is known."""
    shape = scan["shape"][:2] if scan["kind"] == "colour" else scan["shape"][-2:]
    return [n * mm for n, mm in zip(shape, (scan["spacing"] or [1.0, 1.0])[-2:], strict=True)]


class Rotation(PretextTask):
    name = "rotation"
    paper = "Gidaris, Singh, Komodakis 2018, arXiv:1803.07728"
    line = "tell by which multiple of 90 degrees an image was turned"
    question = "How was this image turned?"
    Settings = Settings
    dims = (2, 3)
    compares = False

    def __init__(self, encoder: Encoder, settings: Any, view: View, modality: str = "") -> None:
        super().__init__(encoder, settings, view, modality)
        whole = settings.axes == "all"
        if whole and (view.spatial_dims == 2 or (view.fit == "stretch" and view.spacing is None)):
            raise UserError(
                "turning a cube in every way needs volumes whose voxels have equal sides",
                "rotation.axes",
                "Take axes: axial, or a 3-D View with a spacing in mm or fit: crop.",
            )
        self.turns, self.solid = (CUBE, 3) if whole else (ANGLES, 2)
        self.head = nn.Linear(encoder.embed_dim, self.turns)
        self.plan = self.views(flip_vertical=False, rotation=0.0)
        if self.plan.flip_vertical or self.plan.rotation > 30:
            raise UserError(
                "'rotation' cannot tell its turns from up-down flips or from turns by more than 30 degrees",
                "rotation.views",
                "Leave flip_vertical off and rotation at 30 or below.",
            )

    @classmethod
    def check(cls, view: View) -> None:
        super().check(view)
        if view.fit == "pad":
            raise UserError(
                "the black bars of a padded image give its rotation away", "view.fit", "Use fit: crop or stretch."
            )

    @classmethod
    def check_scans(cls, scans: pd.DataFrame, view: View, settings: Any) -> None:
        """Refuse what shows by which quarter an image was turned: slices thicker than their pixels, where cubes turn in
        every way, however they are resampled; and frames that are no squares, where the View stretches them."""
        stretched = view.fit == "stretch" and view.spacing is None
        if settings.axes != "all" and not stretched:
            return
        rows = scans[["scan", "kind", "shape", "spacing"]].to_dict("records")
        if settings.axes == "all":
            sides = {row["scan"]: row["spacing"] for row in rows if len(row["spacing"] or ()) == 3}
            most, has, where = UNEVEN, "voxels of {} mm", "rotation.axes"
            fix = "Take axes: axial, or leave out scans whose voxels are no cubes."
        else:
            sides = {row["scan"]: _frame(row) for row in rows}
            most, has, where, fix = UNEVEN_FRAME, "a frame of {}", "view.fit", "Use fit: crop."
        worst = max(sides, key=lambda scan: max(sides[scan]) / min(sides[scan]), default=None)
        if worst is not None and max(sides[worst]) > most * min(sides[worst]):
            found = has.format(" x ".join(f"{side:.4g}" for side in sides[worst]))
            what = f"'rotation' would read the turn from how the image is squeezed: scan {worst} has {found}"
            raise UserError(what, where, fix)

    def loss(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, dict[str, Tensor]]:
        x, labels = self.puzzle(batch, generator)
        logits = self.head(self.embed(x)).float()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    def floor(self, batch: Batch, generator: RowGenerator) -> dict[str, float]:
        return {"loss": math.log(self.turns), "accuracy": 1 / self.turns}

    def show(self, batch: Batch, generator: RowGenerator) -> list[Picture]:
        """The image as it was turned, and turned back by what the network answers."""
        seen, labels = (found[: len(batch.rows)] for found in self.puzzle(batch, generator))
        said = self.head(self.embed(seen)).argmax(1)
        words = [f"{90 * k} degrees" if self.turns == ANGLES else f"turn {k}" for k in range(self.turns)]
        undone = turn(seen, undoing(self.turns).to(said.device)[said])
        answers = [f"answer: {text}" for text in verdict(said, labels, words)]
        asked = [f"turned by {words[k]}" if self.turns == ANGLES else words[k] for k in labels.tolist()]
        return pictures((batch.images, "image"), (seen, asked), (undone, answers))

    def ask(self, batch: Batch, generator: RowGenerator) -> list[Question]:
        if self.turns != ANGLES:
            what, fix = "nobody can name the 24 turns of a cube", "Take an encoder of rotation with axes: axial."
            raise UserError(what, "rotation.axes", fix)
        seen, labels = self.puzzle(batch, generator)
        if self.settings.turns == "all":  # one of the four, at random
            count = len(batch.rows)
            rows = generator.integers(ANGLES)[:, 0] * count + torch.arange(count, device=seen.device)
            seen, labels = seen[rows], labels[rows]
        return worded([(seen, "")], TURNS, labels, self.head(self.embed(seen)).argmax(1))

    def puzzle(self, batch: Batch, generator: RowGenerator) -> tuple[Tensor, Tensor]:
        """Turned images and their turns: (N, C, *spatial) and (N,), or with `turns: all` so many times N."""
        x = self.new_view(batch.images, self.plan, generator)
        if self.settings.turns == "all":
            labels = torch.arange(self.turns, device=x.device).repeat_interleave(len(x))
            x = torch.cat([turned(x, k) for k in range(self.turns)])
        else:
            labels = generator.integers(self.turns)[:, 0]
            x = turn(x, labels)
        return circle(x, self.solid) if self.settings.mask == "circle" else x, labels


def turn(x: Tensor, labels: Tensor) -> Tensor:
    """Turn each row of x, (N, C, *spatial), as its label (N,) says."""
    out = torch.empty_like(x)
    for k in labels.unique().tolist():
        rows = labels == k
        out[rows] = turned(x[rows], k)
    return out


def undoing(turns: int) -> Tensor:
    """(turns,): for each turn the one that takes it back."""
    cube = torch.arange(27).view(1, 3, 3, 3)
    ways = range(turns)
    return torch.tensor([next(j for j in ways if torch.equal(turned(turned(cube, k), j), cube)) for k in ways])


def turned(x: Tensor, k: int) -> Tensor:
    """Turn k of a square's 4 (as torch.rot90 does) or of a cube's 24: first one of 6 faces comes up, then it spins."""
    face, quarter = divmod(k, ANGLES)
    if face:
        x = torch.rot90(x, face if face < 4 else 2 * face - 7, (-3, -1) if face < 4 else (-3, -2))
    return torch.rot90(x, quarter, (-2, -1))


def circle(x: Tensor, dims: int = 2) -> Tensor:
    """Put gray over everything outside the inscribed circle of the last two axes, or ball of the last three."""
    places = (torch.arange(x.shape[-1], device=x.device) + 0.5) / x.shape[-1] * 2 - 1
    squares = [(places**2).view(-1, *[1] * axis) for axis in range(dims)]
    return torch.where(sum(squares[1:], squares[0]) <= 1, x, 0.5)
