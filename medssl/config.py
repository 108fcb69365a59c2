"""What a YAML in `configs/` may say: pydantic models, and errors that name the nearest key.

Tasks, strategies and targets own their part of the schema: each registers its settings model with `register`, and
`settings_for` looks it up by name, so that adding one touches no other file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from medssl.errors import UserError, nearest, unknown

Model = TypeVar("Model", bound=BaseModel)
Budget = int | Literal["all"]


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(Strict):
    """How a scan becomes training samples. Its hash names the samples, and it travels with every checkpoint.

    Attributes:
        size: pixels a side (voxels in 3-D).
        spatial_dims: 2 for images and slices of volumes, 3 for patches of volumes.
        plane: which slices of a volume, by the patient's axes.
        slices: at most this many slices of a volume, evenly spaced; None takes all.
        spacing: mm a pixel before cropping to `size`; None scales the whole field of view to `size`.
        intensity: `auto` takes a CT window for HU, the full range for 8-bit images, percentiles otherwise.
        window: (low, high) in the scan's unit, with `intensity: window`; for CT in HU.
        percentiles: (low, high) that become black and white, with `intensity: percentiles`.
        fit: `crop` cuts the centre square, `stretch` keeps all and changes the aspect, `pad` adds black bars.
        channels: 1 for gray, 3 for colour.
    """

    size: int = Field(64, ge=8, le=1024)
    spatial_dims: Literal[2, 3] = 2
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    slices: int | None = Field(None, ge=1)
    spacing: float | None = Field(None, gt=0)
    intensity: Literal["auto", "window", "percentiles", "range"] = "auto"
    window: tuple[float, float] = (-160.0, 240.0)
    percentiles: tuple[float, float] = (0.5, 99.5)
    fit: Literal["crop", "stretch", "pad"] = "crop"
    channels: Literal[1, 3] = 1


class LabelColumns(Strict):
    """A label file (CSV or TSV) and what its columns mean.

    Attributes:
        file: the table; relative to the source.
        scan: column that names a scan's file or series folder (by name or path, with or without ending).
        patient: column with the patient's id, where files do not carry one (or to match rows by patient).
        group: column whose equal values must stay on one side of a split (near duplicates, families).
        targets: columns to be predicted; default: all that are left.
    """

    file: str
    scan: str | None = None
    patient: str | None = None
    group: str | None = None
    targets: list[str] = []


class Source(Strict):
    """Scans of one cohort.

    Attributes:
        name: of the cohort in the workspace.
        source: a folder, relative to MEDSSL_DATA or to WORKSPACE/sources, or absolute.
        obtain: what to do where the source is missing.
        labels: the label file and its columns.
    """

    name: str
    source: str
    obtain: str = ""
    labels: LabelColumns | None = None


class Target(Strict):
    """What is predicted, and for which unit a prediction counts."""

    name: str
    kind: str = "classification"
    unit: Literal["image", "exam", "patient"] = "image"


class Fractions(Strict):
    """Shares of the patients in each part of the split; the pool takes the rest."""

    test: float = Field(0.4, gt=0, lt=1)
    validation: float = Field(0.1, ge=0, lt=1)
    seed: int = 0


class Pretraining(Strict):
    """One pretraining run; `settings` are the task's own (see `medssl tasks`)."""

    task: str
    encoder: str = "small"
    weights: str = "random"
    size: int | None = None
    steps: int = Field(1000, ge=1)
    batch: int | Literal["auto"] = "auto"
    precision: Literal["auto", "32", "bf16"] = "auto"
    learning_rate: float | None = Field(None, gt=0)
    seed: int = 0
    settings: dict[str, Any] = {}


class Arm(Strict):
    """An encoder, its initialisation and a strategy. `pretrain` names a run under `pretraining:`, with its encoder.

    Attributes:
        encoder: a name for `create_encoder`, or `pixels` for 16 x 16 raw pixels without any encoder.
        init: `random`, `imagenet`, a timm tag, or a file of weights; ignored with `pretrain`.
        size: input size where it is not the experiment's own (ImageNet at its native 224).
        strategy: a name, or `{name: ..., key: value}` with the strategy's settings.
    """

    encoder: str = "small"
    init: str = "random"
    pretrain: str | None = None
    size: int | None = None
    strategy: str | dict[str, Any] = "probe"

    @property
    def strategy_name(self) -> str:
        return self.strategy if isinstance(self.strategy, str) else str(self.strategy.get("name", ""))

    @property
    def strategy_settings(self) -> dict[str, Any]:
        return {} if isinstance(self.strategy, str) else {k: v for k, v in self.strategy.items() if k != "name"}


class Claim(Strict):
    """The one comparison that the experiment was made for; named before the test split is opened."""

    arm: str
    baseline: str
    budget: Budget
    metric: str = "auc"


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Experiment(Strict):
    """An experiment, complete in itself: which scans, which arms, which budgets, how often."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    title: str = ""
    note: str = ""
    cohort: Source
    target: Target
    view: View = View()
    split: Fractions = Fractions()
    budgets: list[Budget] = [2, 5, 10, 25, 50, "all"]
    per: Literal["class", "total"] = "class"
    draws: int = Field(10, ge=1)
    seed: int = 0
    metrics: list[str] = ["auc", "accuracy"]
    pretraining: dict[str, Pretraining] = {}
    arms: dict[str, Arm]
    baseline: Annotated[list[str], BeforeValidator(_one_or_more)] = ["scratch"]
    claim: Claim | None = None
    replicates: int = Field(2000, ge=100)

    @model_validator(mode="after")
    def _names_exist(self) -> Experiment:
        for name, arm in self.arms.items():
            if arm.pretrain is not None and arm.pretrain not in self.pretraining:
                raise unknown("pretraining run", arm.pretrain, list(self.pretraining), f"arms.{name}.pretrain")
        for name in self.baseline:
            if name not in self.arms:
                raise unknown("arm", name, list(self.arms), "baseline")
        if self.claim:
            for key in ("arm", "baseline"):
                if getattr(self.claim, key) not in self.arms:
                    raise unknown("arm", getattr(self.claim, key), list(self.arms), f"claim.{key}")
            if self.claim.budget not in self.budgets:
                raise unknown("budget", str(self.claim.budget), [str(b) for b in self.budgets], "claim.budget")
            if self.claim.metric not in self.metrics:
                raise unknown("metric", self.claim.metric, self.metrics, "claim.metric")
        numbers = [b for b in self.budgets if b != "all"]
        if len(set(map(str, self.budgets))) != len(self.budgets) or any(int(b) < 1 for b in numbers):
            raise UserError("budgets must be different whole numbers of at least 1, or 'all'", "budgets")
        return self


def load_experiment(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Experiment:
    """Read a YAML file, apply `key.sub=value` overrides, and check it.

    Args:
        path: a file, or the name of a shipped config (`demo`, `busi`, ...).
        overrides: values are read as YAML, so that `budgets=[2,5,all]` and `draws=3` mean what they look like.

    Raises:
        UserError: no such file, not YAML, an unknown key (with the nearest known one), a value out of range.
    """
    file = find_config(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {str(error).splitlines()[0]}", str(path)) from None
    if not isinstance(raw, dict):
        raise UserError("a config is a mapping of keys to values", str(path))
    apply_overrides(raw, overrides)
    return validate(Experiment, raw, str(path))


def find_config(path: str | Path) -> Path:
    """The file at `path`, else the shipped config of that name."""
    path = Path(path)
    if path.is_file():
        return path
    shipped = shipped_configs()
    known = {p.stem: p for folder in shipped for p in sorted(folder.glob("*.yaml"))}
    if path.stem in known and str(path.parent) in (".", "configs"):
        return known[path.stem]
    raise UserError("no such config", str(path), f"Name a YAML file, or one of: {', '.join(sorted(known))}.")


def shipped_configs() -> list[Path]:
    """Folders of shipped configs: in the wheel, and beside the package in a checkout."""
    package = Path(__file__).parent
    return [p for p in (package / "_configs", package.parent / "configs") if p.is_dir()]


def apply_overrides(raw: dict[str, Any], overrides: list[str] | tuple[str, ...]) -> None:
    """Set `a.b=value` in a nested mapping, in place."""
    for item in overrides:
        key, sign, text = item.partition("=")
        if not sign or not key:
            raise UserError("an override is written key=value", item, "For example: draws=3 view.size=96")
        *parents, last = key.split(".")
        place = raw
        for parent in parents:
            step = place.setdefault(parent, {})
            if not isinstance(step, dict):
                raise UserError(f"'{parent}' holds a value and has no keys below it", item)
            place = step
        place[last] = yaml.safe_load(text)


def validate(model: type[Model], raw: dict[str, Any], where: str) -> Model:
    """Check `raw` against `model`; the first problem becomes a UserError that names key, problem and nearest key."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = error.errors()
        first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_beside(model, first["loc"])
            near = nearest(str(first["loc"][-1]), known)
            fix = f"Did you mean '{near}'? " if near else ""
            raise UserError(f"unknown key '{key}'", where, f"{fix}Known here: {', '.join(known)}.") from None
        raise UserError(f"'{key}': {first['msg']}" if key else str(first["msg"]), where) from None


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names that would have been allowed where an unknown key stood."""
    here: Any = model
    for part in location[:-1]:
        if not (isinstance(here, type) and issubclass(here, BaseModel)):
            break
        field = here.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        here = inner[0] if inner else here
    return sorted(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]


_SETTINGS: dict[tuple[str, str], type[BaseModel]] = {}


def register(kind: str, name: str, model: type[BaseModel]) -> None:
    """Make `model` the settings of the task, strategy or target `name`."""
    _SETTINGS[kind, name] = model


def settings_for(kind: str, name: str, raw: dict[str, Any], where: str = "") -> Any:
    """The checked settings of a registered task, strategy or target.

    Raises:
        UserError: no such name, an unknown key, a value out of range.
    """
    if (kind, name) not in _SETTINGS:
        raise unknown(kind, name, registered(kind), where)
    return validate(_SETTINGS[kind, name], raw, where or name)


def registered(kind: str) -> list[str]:
    return sorted(n for k, n in _SETTINGS if k == kind)
