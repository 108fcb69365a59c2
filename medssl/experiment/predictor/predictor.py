"""A predictor: encoder, head, View and classes in one folder, without pickle.

FOLDER/
  predictor.json         what it is and where it comes from (`About`)
  predictor.safetensors  encoder.*, heads.head.*, and heads.familiar.* (where the training cohort's embeddings lie)
  training.json          what the training cohort's scans are like (`Known`)
  card.md                the model card
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medssl.cohort import Cohort
from medssl.config import validate
from medssl.errors import MedsslError, UserError
from medssl.experiment.predictor.about import SCHEMA, About
from medssl.experiment.predictor.known import Known
from medssl.experiment.predictor.scans import Drawn, about_scans, about_units, draw, opened
from medssl.transfer import HANDCRAFTED, TargetKind, target_kind, unit_means
from medssl.workspace import Workspace, write_json, write_text

if TYPE_CHECKING:  # torch takes seconds to import
    from medssl.experiment.predictor.familiar import Familiar
    from medssl.transfer.fitted import Fitted

ABOUT, WEIGHTS, TRAINING, CARD = "predictor.json", "predictor.safetensors", "training.json", "card.md"


@dataclass(frozen=True)
class Predictions:
    """What a predictor says of the scans of a cohort.

    Attributes:
        units: a row a unit: `unit, patient, predicted`, `probability_CLASS` (calibrated), `score_CLASS` (at temperature
            1, as experiments record it), `findings` (codes, with blanks between them). A number that is predicted has
            no probability, and `score_value` in place of the classes.
        patients: a row a patient: `patient, units, predicted`, and the mean `probability_CLASS` of the patient's units;
            of a number the mean is what is predicted.
        findings: {"code", "severity" (left_out or warning), "sentence", "todo", "count", "keys"}: scans, or units, that
            are unlike the training cohort or were left out.
    """

    units: pd.DataFrame
    patients: pd.DataFrame
    findings: list[dict[str, Any]]


class Predictor:
    """An arm that was taken away; make one with `medssl refit`, open it with `Predictor.load`.

    Args:
        about, known: as they are written.
        fitted: head, and the encoder; None there: handcrafted features.
        familiar: None where too few units were there.

    Attributes:
        classes_: names, in the order of columns, as in scikit-learn.
    """

    def __init__(self, about: About, known: Known, fitted: Fitted, familiar: Familiar | None) -> None:
        self.about, self.known, self.fitted, self.familiar = about, known, fitted, familiar
        self.classes_ = np.array(about.classes)
        target = about.target
        self.target = target_kind(target.kind_name, about.classes, target.kind_settings).relearn(about.learnt)

    def __repr__(self) -> str:
        return f"Predictor({self.about.arm!r} of {self.about.experiment!r}, classes={self.about.classes})"

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """Read what `save` wrote.

        Raises:
            UserError: no predictor there, one of another version of medssl, or files that are damaged or do not belong
                together.
        """
        from medssl.experiment.predictor.familiar import Familiar
        from medssl.transfer.fitted import Fitted
        from medssl.transfer.heads import make_head

        folder = Path(folder)
        raw = _read_json(folder / ABOUT)
        if raw.get("schema_version") != SCHEMA:
            raise UserError("this predictor was made by another version of medssl", str(folder), "Refit it with this.")
        about, weights = validate(About, raw, str(folder)), folder / WEIGHTS
        if not weights.is_file() or _hash(weights) != about.weights:
            fix = "Copy the whole folder again, or refit it."
            raise UserError(f"{WEIGHTS} is not the one that {ABOUT} tells of", str(folder), fix)
        known = validate(Known, _read_json(folder / TRAINING), str(folder))
        encoder, heads = _read_weights(weights, about.encoder)
        head = make_head(about.head, heads["head"])
        familiar = Familiar(**heads["familiar"]) if "familiar" in heads else None
        return cls(about, known, Fitted(head, encoder), familiar)

    def save(self, folder: str | Path, card: str) -> Path:
        """Write the folder, or write it again.

        Args:
            card: the model card, Markdown.

        Raises:
            UserError: `folder` holds something else, or the encoder cannot be made again from a file.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / ABOUT).exists())):
            raise UserError("the predictor's place holds something else", str(folder), "Name a new or empty folder.")
        self._check_rebuilds()
        folder.mkdir(parents=True, exist_ok=True)
        self._write_weights(folder / WEIGHTS)
        write_json(folder / TRAINING, self.known.model_dump(mode="json"))
        write_text(folder / CARD, card)
        about = self.about.model_copy(update={"weights": _hash(folder / WEIGHTS)})
        write_json(folder / ABOUT, about.model_dump(mode="json"))
        return folder

    def predict_proba(self, scans: Any, workspace: Workspace | None = None) -> np.ndarray:
        """Calibrated probabilities (N, classes), columns in the order of `classes_`.

        Args:
            scans: a Cohort or its folder; files or folders of scans; or images (N, C, *spatial) uint8 that look as this
                predictor's View draws them, each of which is then a unit. Of scans, units come in the order of
                `predictions(scans).units`, which names them.

        Raises:
            UserError: images of another shape, a target without probabilities, and all of `predictions`.
        """
        if not self.target.probable:
            raise UserError("this predictor gives a number, which has no probability", self.about.arm, "Call predict.")
        return self._calibrated(scans, workspace)

    def predict(self, scans: Any, workspace: Workspace | None = None) -> np.ndarray:
        """(N,) names of the likeliest classes (of all likely labels, as in `a|b`; median grades), or numbers."""
        return self.target.said(self._calibrated(scans, workspace))

    def predictions(self, scans: Any, workspace: Workspace | None = None) -> Predictions:
        """Probabilities of all units, and what is unlike the training cohort.

        Args:
            scans: a Cohort or its folder, or files and folders, which are ingested for as long as this takes.
            workspace: whose secret makes the keys of scans and patients.

        Raises:
            UserError: no scan that the predictor's View can draw, and all of `ingest`.
        """
        with opened(scans, workspace or Workspace()) as (cohort, _):
            return self.of_cohort(cohort)

    def of_cohort(self, cohort: Cohort) -> Predictions:
        """See `predictions`."""
        drawn = draw(cohort, self.about, self.known)
        embedded = unit_means(self._embed(drawn.images), drawn.unit_of, len(drawn.units))
        found = about_scans(drawn, self.about, self.known)
        if self.familiar is not None and self.known.distance is not None:
            far = self.familiar.distances(embedded) > self.known.distance
            found += about_units(drawn, far)
        units = self._unit_table(embedded, drawn, found)
        shown = [{key: value for key, value in one.items() if key != "units"} for one in found]
        return Predictions(units, _patient_table(units, self.target), shown)

    def _calibrated(self, scans: Any, workspace: Workspace | None) -> np.ndarray:
        """(N, columns) scores at the predictor's temperature; see `predict_proba`."""
        if isinstance(scans, np.ndarray):
            return self._scores(self._embed(self._checked(scans)), self.about.calibration.temperature)
        return self.predictions(scans, workspace).units[_shown(self.target)].to_numpy()

    def _unit_table(self, embedded: np.ndarray, drawn: Drawn, found: list[dict[str, Any]]) -> pd.DataFrame:
        plain, calibrated = (self._scores(embedded, t) for t in (1.0, self.about.calibration.temperature))
        codes: dict[str, list[str]] = {unit: [] for unit in drawn.units["unit"]}
        for one in found:
            for unit in one["units"]:
                codes.get(unit, []).append(one["code"])  # units that were left out have no row
        return drawn.units.assign(
            predicted=self.target.said(calibrated),
            **{f"probability_{name}": calibrated[:, i] for i, name in enumerate(self.about.classes)},
            **{f"score_{name}": plain[:, i] for i, name in enumerate(self.target.columns)},
            findings=[" ".join(codes[unit]) for unit in drawn.units["unit"]],
        )

    def _embed(self, images: np.ndarray) -> np.ndarray:
        if self.fitted.encoder is None:
            return HANDCRAFTED[self.about.encoder](images)
        from medssl.encoders import embed_all
        from medssl.training.rules import this_device

        return embed_all(self.fitted.encoder.to(this_device()), images)

    def _scores(self, embedded: np.ndarray, temperature: float) -> np.ndarray:
        return self.target.scores(self.fitted.logits(embedded) / np.float32(temperature))

    def _checked(self, images: np.ndarray) -> np.ndarray:
        view = self.about.view
        wanted = (view.channels, *[view.size] * view.spatial_dims)
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            what = f"images are {images.dtype} of shape {images.shape}, not uint8 of shape (N, {str(wanted)[1:-1]})"
            raise UserError(what, "images", "Give scans or a cohort: the predictor's View then draws them.")
        return images

    def _check_rebuilds(self) -> None:
        """The encoder must come back from its `architecture()` and tensors: a strategy may have wrapped it."""
        if self.fitted.encoder is None:
            return
        from medssl.encoders import embed_all
        from medssl.encoders.build import build

        encoder, view = self.fitted.encoder, self.about.view
        shape = (2, view.channels, *[view.size] * view.spatial_dims)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        try:
            twin = build(encoder.architecture())
            twin.load_state_dict(encoder.state_dict())
            same = np.allclose(embed_all(twin, images), embed_all(encoder, images), rtol=1e-4, atol=1e-5)
        except (MedsslError, AttributeError, KeyError, RuntimeError, TypeError):
            same = False
        if not same:
            how = self.about.recipe["arm"]["strategy"]
            raise UserError(
                f"the encoder that this strategy leaves ({how}) cannot be made again from its file",
                self.about.arm,
                "Take an arm with another strategy away: this one's encoder must give an `architecture()` of its own.",
            )

    def _write_weights(self, path: Path) -> None:
        from safetensors.torch import save_file

        from medssl.encoders import save_checkpoint
        from medssl.workspace import atomic

        heads = {"head": self.fitted.head} | ({} if self.familiar is None else {"familiar": self.familiar})
        if self.fitted.encoder is not None:
            save_checkpoint(path, self.fitted.encoder, heads, {"view": self.about.view.model_dump(mode="json")})
            return
        tensors = {f"heads.{name}.{k}": v for name, head in heads.items() for k, v in head.state_dict().items()}
        with atomic(path) as fresh:
            save_file({key: value.contiguous() for key, value in tensors.items()}, fresh)


def _shown(target: TargetKind) -> list[str]:
    """Columns of what is said of a unit: probabilities, or a number."""
    return [f"probability_{name}" if target.probable else f"score_{name}" for name in target.columns]


def _patient_table(units: pd.DataFrame, target: TargetKind) -> pd.DataFrame:
    """Mean probabilities of each patient's units, or their mean number."""
    grouped = units.groupby("patient", sort=False)
    means = grouped[_shown(target)].mean()
    kept = _shown(target) if target.probable else []
    said = means.assign(units=grouped.size(), predicted=target.said(means.to_numpy()))
    return said[["units", "predicted", *kept]].reset_index()


def _read_weights(path: Path, encoder: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Encoder (None for handcrafted features) and the tensors of the heads."""
    from safetensors.torch import load_file

    from medssl.encoders import load_checkpoint

    if encoder not in HANDCRAFTED:
        found = load_checkpoint(path)
        return found.encoder, found.heads
    heads: dict[str, dict[str, Any]] = {}
    for key, value in load_file(path).items():
        _, name, rest = key.split(".", 2)
        heads.setdefault(name, {})[rest] = value
    return None, heads


def _read_json(path: Path) -> dict[str, Any]:
    fix = "Make one with: medssl refit EXPERIMENT ARM --out DIR"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no predictor here ({path.name} is missing)", str(path.parent), fix) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path.name} is damaged", str(path.parent), "Copy the folder again, or refit it.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path.name} is damaged", str(path.parent), "Copy the folder again, or refit it.")
    return raw


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
