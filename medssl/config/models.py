"""Pydantic models of everything that a YAML in `configs/` may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from medssl.config.base import Strict
from medssl.config.others import check_others
from medssl.config.pretraining import Pretraining
from medssl.config.tuning import Tuning
from medssl.config.view import View
from medssl.errors import UserError, unknown

Budget = int | Literal["all"]
LOWER_IS_BETTER = frozenset(
    {"brier", "ece", "calibrated_brier", "calibrated_ece", "mae", "rmse"}
)  # metrics that are losses


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
    targets: list[str] = Field(default=[])


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
    """What is predicted, and for which unit a prediction counts.

    Attributes:
        name: a label of the cohort; with `columns` any name.
        kind: `classification`, `multilabel`, `ordinal` or `regression`, or `{name: ..., key: value}` with the kind's
            settings, such as `{name: classification, imbalance: balanced}`.
        columns: labels of the cohort that are 0 or 1 each and are predicted together (multilabel). A unit that lacks
            one of them counts as unlabeled.
    """

    name: str
    kind: str | dict[str, Any] = "classification"
    unit: Literal["image", "exam", "patient"] = "image"
    columns: list[str] = Field(default=[])

    @property
    def kind_name(self) -> str:
        return _named(self.kind)[0]

    @property
    def kind_settings(self) -> dict[str, Any]:
        return _named(self.kind)[1]


def _texts(value: Any) -> Any:
    """YAML reads labels such as 0 and 1 as numbers."""
    if not isinstance(value, dict):
        return value
    return {str(key): word if word is None else str(word) for key, word in value.items()}


class Other(Strict):
    """Scans and labels that an arm may learn from beside the budget's: of another cohort, another target, or both.

    Attributes:
        cohort: left out: the experiment's own, of which the pool's labels are taken.
        target: a label, or an attribute of the catalog (`vendor`, `sex`, `bids_suffix`); left out: the experiment's
            own target, and so the same task.
        classes: which class of the experiment's target each label of this one is, which makes it the same task; a
            label that is mapped to nothing (`~`) is left out.
    """

    cohort: Source | None = None
    target: Target | None = None
    classes: Annotated[dict[str, str | None], BeforeValidator(_texts)] = Field(default={})

    @property
    def same_task(self) -> bool:
        return self.target is None or bool(self.classes)


class Fractions(Strict):
    """Shares of the patients in each part of the split; the pool takes the rest. Or, with `folds`, cross-fitting.

    Attributes:
        folds: instead of a test part: every labeled patient is tested once a repeat, by a model that learnt from the
            labels of the other folds. The pool are the unlabeled patients, and nothing is held for validation.
        repeats: of the partition into folds.
        labels: so many labeled units (a class or in total, as `per` says) take part, and all others count as unlabeled:
            what few labels would have given, on a cohort that has many.
        column: a label (one of the cohort's targets) that names the official part of each scan, `train`, `val` or
            `test`; the shares are then not used.
        hold_out: a value of `column`, which may then be any label or attribute of the catalog (`vendor`, a site): the
            patients who have it are the test part, all others the pool. One experiment a value leaves each site out.
    """

    test: float = Field(0.4, gt=0, lt=1)
    validation: float = Field(0.1, ge=0, lt=1)
    seed: int = 0
    column: str | None = None
    hold_out: str | None = None
    folds: int | None = Field(None, ge=2)
    repeats: int = Field(5, ge=1)
    labels: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _one_kind_of_split(self) -> Fractions:
        if self.hold_out is not None and self.column is None:
            raise UserError("a value to hold out needs the column that it stands in", "split.hold_out", "Add column.")
        of_folds, of_a_test_part = {"repeats", "labels"}, {"test", "validation", "column", "hold_out"}
        strange = sorted(self._changed() & (of_a_test_part if self.folds else of_folds))
        if strange:
            why = "has no meaning beside folds" if self.folds else "needs folds"
            fix = "A cohort is cross-fitted (folds, repeats, labels) or has one test part, not both."
            raise UserError(f"'{strange[0]}' {why}", f"split.{strange[0]}", fix)
        return self

    def _changed(self) -> set[str]:
        """Names of what is not as by default; a config that was stored names everything."""
        return {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}


class Arm(Strict):
    """An encoder, its initialisation and a strategy. `pretrain` names a run under `pretraining:`, with its encoder.

    The cohort and target may be two: `jointly` names an entry under `others:` that is learnt in the same steps.

    Attributes:
        encoder: a name for `create_encoder`; or without any encoder `pixels` for 16 x 16 raw pixels, or `radiomics` for
            first-order and texture features.
        init: `random`, `imagenet`, a timm tag, or a file of weights (such as an SSL checkpoint); `imagenet_to_K` for
            ImageNet's weights up to and including stage K (0 is the stem) and random ones after it;
            `imagenet_mean_var` for random weights with mean and variance of ImageNet's; ignored with `pretrain`.
        size: input size where it is not the experiment's own (ImageNet at its native 224).
        strategy: a name, or `{name: ..., key: value}` with the strategy's settings.
        grid: recipes to try beside this one where the experiment has `tuning`: a list of settings that are changed,
            such as `[{penalty: 0.02}, {penalty: 2}]`; default the strategy's own.
        jointly: an entry under `others:`, for the strategy `joint`.
        pretrain_seeds: encoders that are pretrained, with the run's seed and those after it; every draw is made with
            each. With several, intervals hold the chance of pretraining too.
        seed: another one gives other training seeds in every draw (an A/A of the same arm).
    """

    encoder: str = "small"
    init: str = "random"
    pretrain: str | None = None
    size: int | None = None
    strategy: str | dict[str, Any] = "probe"
    grid: list[dict[str, Any]] | None = None
    jointly: str | None = None
    pretrain_seeds: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)

    @property
    def strategy_name(self) -> str:
        return _named(self.strategy)[0]

    @property
    def strategy_settings(self) -> dict[str, Any]:
        return _named(self.strategy)[1]


class Claim(Strict):
    """The one comparison that the experiment was made for; named before the test split is opened.

    Attributes:
        margin: also asks whether the arm is worse by this much or more (non-inferiority), in the metric's unit.
    """

    arm: str
    baseline: str
    budget: Budget
    metric: str = "auc"
    margin: float | None = Field(None, gt=0)


def _named(choice: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings, from a name or `{name: ..., key: value}`."""
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    return str(settings.pop("name", "")), settings


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Experiment(Strict):
    """An experiment, complete in itself: which scans, which arms, which budgets, how often.

    `evaluate: validation` scores on the validation patients: recipes are tuned that way, and the test split stays shut.
    With `tuning` every arm chooses its recipe inside each budget that is large enough, by the budget's own labels.
    `external` cohorts (another site) are scored by the same models, in tables of their own, and used for nothing else.
    `others` are further scans and labels to learn from, by a name that arms (`jointly`) and pretraining (`other`) use.
    With `split.folds` a draw is the training set that leaves one fold of one repeat out, and `all` is the only budget
    unless others are named: n labels of the other folds.

    Attributes:
        budgets: numbers of labels to learn from, `per` class or in total, and `all` that the pool has.
        per: what a budget counts.
        draws: how often each budget's labels are drawn anew; every arm gets the same ones.
        seed: of the draws.
        metrics: what is scored; the first is the main one.
        note: stands above the results.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    title: str = ""
    note: str = ""
    cohort: Source
    external: list[Source] = Field(default=[])
    others: dict[str, Other] = Field(default={})
    target: Target
    view: View = View()
    split: Fractions = Fractions()
    budgets: list[Budget] = Field(default=[2, 5, 10, 25, 50, "all"])
    per: Literal["class", "total"] = "class"
    draws: int = Field(10, ge=1)
    seed: int = 0
    metrics: list[str] = Field(default=["auc", "accuracy"])
    tuning: Tuning | None = None
    evaluate: Literal["test", "validation"] = "test"
    pretraining: dict[str, Pretraining] = Field(default={})
    arms: dict[str, Arm]
    baseline: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(default=["scratch"])
    claim: Claim | None = None
    replicates: int = Field(2000, ge=100)

    @model_validator(mode="before")
    @classmethod
    def _folds_are_draws(cls, raw: Any) -> Any:
        split = raw.get("split") if isinstance(raw, dict) else None
        split = split.model_dump() if isinstance(split, Fractions) else split
        if not isinstance(split, dict) or not isinstance(split.get("folds"), int):
            return raw
        repeats = split.get("repeats", Fractions.model_fields["repeats"].default)
        draws = split["folds"] * repeats if isinstance(repeats, int) else None
        if raw.get("draws", draws) != draws:
            fix = "Leave draws out and set split.repeats."
            raise UserError(f"with folds there are folds x repeats = {draws} draws, not {raw['draws']}", "draws", fix)
        return {"budgets": ["all"], **raw, **({"draws": draws} if draws else {})}

    @model_validator(mode="after")
    def _cross_fitting_stands_alone(self) -> Experiment:
        if self.split.folds and self.external:
            fix = "Leave external out, or give this cohort a test part (split.test)."
            raise UserError("cross-fitting leaves no one model that could be tested elsewhere", "external", fix)
        if self.split.folds and self.evaluate != "test":
            fix = "Choose recipes on another cohort."
            raise UserError("a cross-fitted experiment has no validation patients", "evaluate", fix)
        return self

    @model_validator(mode="after")
    def _others_are_others(self) -> Experiment:
        check_others(self)
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Experiment:
        for name, arm in self.arms.items():
            if arm.pretrain is not None and arm.pretrain not in self.pretraining:
                raise unknown("pretraining run", arm.pretrain, list(self.pretraining), f"arms.{name}.pretrain")
            if arm.pretrain_seeds > 1 and arm.pretrain is None:
                raise UserError("an arm that is not pretrained has no pretraining seeds", f"arms.{name}.pretrain_seeds")
            if arm.grid is not None and self.tuning is None:
                fix = "Add tuning: {trials: N} to the experiment, or leave the grid out."
                raise UserError("a grid is only tried where the experiment has tuning", f"arms.{name}.grid", fix)
        several = {arm.pretrain_seeds for arm in self.arms.values()} - {1}
        if len(several) > 1:
            raise UserError(
                f"arms ask for {' and '.join(map(str, sorted(several)))} pretraining seeds",
                "pretrain_seeds",
                "Arms with more than one encoder are compared encoder by encoder: give all of them the same number.",
            )
        for name in self.baseline:
            if name not in self.arms:
                raise unknown("arm", name, list(self.arms), "baseline")
        if self.claim:
            for key in ("arm", "baseline"):
                if getattr(self.claim, key) not in self.arms:
                    raise unknown("arm", getattr(self.claim, key), list(self.arms), f"claim.{key}")
            if self.claim.arm == self.claim.baseline:
                raise UserError("a claim compares an arm with another one", "claim")
            if self.claim.budget not in self.budgets:
                raise unknown("budget", str(self.claim.budget), [str(b) for b in self.budgets], "claim.budget")
            if self.claim.metric not in self.metrics:
                raise unknown("metric", self.claim.metric, self.metrics, "claim.metric")
        numbers = [b for b in self.budgets if b != "all"]
        if len(set(map(str, self.budgets))) != len(self.budgets) or any(int(b) < 1 for b in numbers):
            raise UserError("budgets must be different whole numbers of at least 1, or 'all'", "budgets")
        return self
