"""Results: evidence on disk, and the tables that follow from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from medssl.config import Budget, Experiment, validate
from medssl.errors import MedsslError, UserError, unknown
from medssl.experiment import notebook, sentences
from medssl.experiment.computed import compute_against, compute_tables, in_order, kept, records
from medssl.experiment.groups import group_units, reported_attributes
from medssl.experiment.index import Index, has_index
from medssl.experiment.ledger import looks
from medssl.experiment.loading import evidence_key, load_evidence
from medssl.experiment.notes import notes
from medssl.experiment.plan import encoder_label
from medssl.experiment.tuning import read_trials
from medssl.experiment.ways import COLUMNS as WAYS
from medssl.experiment.ways import initialisation
from medssl.statistics import Evidence, Replicates, fixed_models, scores
from medssl.transfer import target_class
from medssl.workspace import code_revision, digest, read_lines


class Results:
    """What an experiment found. CLI, app, notebook and report read nothing else.

    Args:
        path: the experiment's folder.
    """

    def __init__(self, path: Path, config: Experiment) -> None:
        self.path, self.settings = path, config

    @classmethod
    def open(cls, path: str | Path) -> Results:
        """Raises UserError where there is no experiment, or its config is damaged."""
        path = Path(path)
        try:
            raw = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError("no experiment here", path.name, "Start one with `medssl run CONFIG`.") from None
        except yaml.YAMLError:
            raise UserError("the experiment's config.yaml is damaged", path.name, "Run its config again.") from None
        if not isinstance(raw, dict):
            raise UserError("the experiment's config.yaml is damaged", path.name, "Run its config again.")
        return cls(path, validate(Experiment, raw, path.name))

    name = property(lambda self: self.settings.name)
    title = property(lambda self: self.settings.title or self.settings.name)
    config = property(lambda self: self.settings.model_dump(mode="json"))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Cohort, sizes of the split's parts, classes."""
        path = self.path / "facts.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def family(self) -> str:
        """Of the metrics that the target has (`medssl.metrics.FAMILIES`)."""
        return target_class(self.settings.target.kind_name).family

    @property
    def cross_fitted(self) -> str:
        """ "cross-fitted over 40 patients", for sentences; empty where there is one test part."""
        if not self.settings.split.folds:
            return ""
        return f"cross-fitted over {self.facts['parts']['test']['patients']} patients"

    @property
    def evidence_folder(self) -> Path:
        return self.path / "results"

    def jobs(self) -> pd.DataFrame:
        """Columns `job, arm, budget, draw, status, seconds, error`."""
        if not has_index(self.path):
            return pd.DataFrame(columns=["job", "arm", "budget", "draw", "status", "seconds", "error"])
        index = Index(self.path)
        jobs = index.jobs()
        index.close()
        return jobs

    def progress(self) -> tuple[dict[str, int], str]:
        """(jobs by status: planned, done, failed; the sentence of the first that failed), quick with many jobs."""
        if not has_index(self.path):
            return {}, ""
        index = Index(self.path)
        try:
            return index.progress()
        finally:
            index.close()

    @property
    def complete(self) -> bool:
        return set(self.progress()[0]) == {"done"}

    def evidence(self) -> pd.DataFrame:
        """One row per job, test unit and class, of all finished jobs of the present plan."""
        import pyarrow.parquet as parquet

        files = self.files()
        try:
            return parquet.ParquetDataset([str(f) for f in files]).read().to_pandas()
        except (OSError, ValueError) as error:
            fix = "Delete the damaged file and run the config again."
            raise MedsslError(f"an evidence file cannot be read ({type(error).__name__})", self.name, fix) from None

    def trials(self) -> pd.DataFrame:
        """The recipes that were tried inside budgets: a row a job and recipe, in the order of the jobs. Columns `arm,
        budget, draw, run, trial, settings` (that differ from the arm's own), `metric, validation` (units), `score,
        chosen`; no rows where nothing was tuned."""
        return read_trials(self.files() if self.settings.tuning else [])

    def scores(self) -> pd.DataFrame:
        """Columns `arm, budget, metric, score, low, high, draws, pretrain_seeds, units, patients`; NaN bounds: not
        estimable."""
        return self._tables["scores"].copy()

    def differences(self) -> pd.DataFrame:
        """Columns `arm, baseline, budget, metric, difference, low, high, p, p_adjusted, claim, verdict,
        pretrain_seeds, same_encoder`."""
        return self._tables["differences"].copy()

    def against(self, baseline: str) -> pd.DataFrame:
        """Differences of all arms to any one, in the columns of `differences`.

        One that the config does not name as a baseline is computed when it is first asked for, and kept; its verdicts
        are corrected among themselves, and all exploratory.

        Raises:
            UserError: no such arm; names the nearest.
        """
        if baseline not in self.settings.arms:
            raise unknown("arm", baseline, list(self.settings.arms), self.name)
        if baseline in self.settings.baseline:
            table = self._tables["differences"]
            return table[table["baseline"] == baseline].reset_index(drop=True)
        file = self.tables_file.with_name(f"{self.tables_file.stem}-to-{digest(baseline, 6)}.json")
        return kept(file, lambda: {"differences": compute_against(self.arrays, self.settings, baseline)})["differences"]

    def savings(self) -> pd.DataFrame:
        """How many times the labels of an arm the baseline of the main comparison needs for the same score: columns
        `arm, baseline, budget, metric, labels, factor, low, high, beyond`; see `label_savings`."""
        return self._tables["savings"].copy()

    def shares(self) -> pd.DataFrame:
        """Scores of the main metric as shares of the best one with the most labels: columns `arm, budget, metric,
        share, low, high, best, most, score`; see `full_shares`."""
        return self._tables["shares"].copy()

    def external(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Scores and differences on the external test cohorts: columns `cohort` and those of `scores` or `differences`.
        Each cohort's comparisons are corrected among themselves; the claim is not about them."""
        return self._tables["external_scores"].copy(), self._tables["external_differences"].copy()

    def curve(self, metric: str | None = None, arms: Sequence[str] | None = None) -> Any:
        """The label-efficiency curve as an Altair chart: of all arms and the main metric, if not told otherwise."""
        return notebook.curve(self, metric, arms)

    def compare(self, arm: str, baseline: str | None = None, metric: str | None = None) -> pd.DataFrame:
        """An arm against a baseline: a row a budget, with both scores, the paired difference, its 95 % interval, p
        (corrected for all comparisons, but for the claim's) and verdict. Default: the main baseline and metric.

        Raises:
            UserError: no such arm, baseline (of the config's `baseline`) or metric.
        """
        return notebook.compare(self, arm, baseline, metric)

    def to_frame(self, metric: str | None = None) -> pd.DataFrame:
        """Scores by arm and budget, with the labels in total and the difference to the main baseline."""
        return notebook.to_frame(self, metric)

    def _repr_html_(self) -> str:
        return notebook.html(self)

    def curves(self) -> pd.DataFrame:
        """A row an arm, by the main metric: `arm, metric, area, low, high` of the curve over log labels, and `budget`
        and `surely`, the smallest that reaches 95 % of the arm's own score with the most labels."""
        return self._tables["curves"].copy()

    def verdicts(self) -> pd.DataFrame:
        """One sentence per budget for the main comparison: the claim's, else the first pretrained arm's."""
        return sentences.verdicts(self)

    def claim_sentences(self) -> list[str]:
        """What follows from the main comparison beside its verdict: labels saved, how close the arm comes to the best
        score with all labels, and whether it is no worse."""
        return sentences.of_claim(self)

    def fixed_models(self) -> pd.DataFrame:
        """The main comparison draw by draw, at the claim's budget or the smallest: each draw's two models as fixed,
        with an interval over test patients alone (`auc_covariance`). Columns `draw, arm, baseline, difference, low,
        high`; empty unless the metric is the AUC of two classes."""
        arm, baseline, metric = self.main_comparison
        budget = self.settings.claim.budget if self.settings.claim else self.settings.budgets[0]
        return fixed_models(self.arrays, arm, baseline, budget, metric)

    def subgroups(self, attribute: str) -> pd.DataFrame:
        """Scores of the main comparison's two arms by an attribute of the test scans: columns `group` and those of
        `scores`, with their numbers of units and patients. Numbers become bands.

        Raises:
            UserError: the catalog does not know this attribute.
        """
        evidence, (arm, baseline, metric) = self.arrays, self.main_comparison
        groups = group_units(self.cohort_folder, self.settings.target.unit, attribute)
        names = pd.Series(evidence.units).map(groups).fillna("unknown").to_numpy()
        chosen = evidence.of_arms([arm, baseline])
        parts = {str(name): chosen.part(names == name) for name in sorted(set(names))}
        tables = [
            scores(Replicates(part, [metric], self.settings.replicates)).assign(group=name)
            for name, part in parts.items()
        ]
        return pd.concat([in_order(table, self.settings) for table in tables], ignore_index=True)

    def attributes(self) -> list[str]:
        """Attributes of the catalog (vendor, sex, age) that tell the test patients apart: what `subgroups` can take."""
        return reported_attributes(self.cohort_folder, self.settings.target.unit, self.arrays.units.tolist())

    @property
    def cohort_folder(self) -> Path:
        return self.path / self.facts.get("cohort_folder", "")

    @property
    def main_comparison(self) -> tuple[str, str, str]:
        """(arm, baseline, metric) that the experiment is about."""
        config = self.settings
        if config.claim:
            return config.claim.arm, config.claim.baseline, config.claim.metric
        baseline = config.baseline[0]
        others = [name for name in config.arms if name != baseline]
        arm = next((name for name in others if config.arms[name].pretrain), others[0] if others else baseline)
        return arm, baseline, config.metrics[0]

    def arms(self) -> pd.DataFrame:
        """Columns `arm, encoder, init, pretrain, strategy, size`."""
        rows = []
        for name, arm in self.settings.arms.items():
            encoder, size = encoder_label(arm, self.settings)
            rows.append((name, encoder, initialisation(arm, self.settings), arm.pretrain, arm.strategy_name, size))
        return pd.DataFrame(rows, columns=["arm", "encoder", "init", "pretrain", "strategy", "size"])

    def ways(self) -> pd.DataFrame:
        """A row an arm: `arm, way, source, other_labels`, what it learns from beside its budget; see `ways_table`."""
        return pd.DataFrame(self.facts.get("ways", []), columns=list(WAYS))

    def pretrained(self) -> dict[str, str]:
        """Pretraining run -> its folder under `encoders/`; empty before the first one is finished."""
        path = self.path / "pretrained.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def histories(self) -> dict[str, pd.DataFrame]:
        """Pretraining run -> its log (step, loss, ...)."""
        encoders = self.path.parent.parent / "encoders"
        logs = {name: encoders / key / "history.jsonl" for name, key in self.pretrained().items()}
        return {name: pd.DataFrame(read_lines(log)) for name, log in logs.items() if log.exists()}

    def label_counts(self) -> dict[Budget, int]:
        """Budget -> labeled units in total, in one draw."""
        return dict(self._label_counts) if (self.path / "budgets.json").exists() else {}

    @cached_property
    def _label_counts(self) -> dict[Budget, int]:
        first = json.loads((self.path / "budgets.json").read_text())["0"]
        return {budget: len(first[str(budget)]) for budget in self.settings.budgets}

    @property
    def tuned_budgets(self) -> list[Budget]:
        """Budgets at which each job chose its recipe among several."""
        path = self.path / "validation.json"
        if not self.settings.tuning or not path.exists():
            return []
        first = json.loads(path.read_text())["0"]
        return [budget for budget in self.settings.budgets if str(budget) in first]

    @property
    def notes(self) -> list[str]:
        """What a reader must know before the figures, in plain sentences."""
        about = self.jobs(), self.arms(), len(self.looks()), self.cross_fitted, self.tuned_budgets
        return notes(self.settings, *about, self.facts)

    def looks(self) -> list[dict[str, Any]]:
        """The ledger of looks at the test split of this cohort, by all its experiments."""
        folder = self.facts.get("cohort_folder")
        return looks(self.path / folder) if folder else []

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts rely on: `experiment`, `results`, `scores`, `differences`, `savings`, `shares`, ..."""
        return {
            "experiment": str(self.path),
            "results": str(self.evidence_folder),
            "scores": records(self.scores()),
            "differences": records(self.differences()),
            "savings": records(self.savings()),
            "shares": records(self.shares()),
            "curves": records(self.curves()),
            "trials": records(self.trials()),
            "ways": records(self.ways()),
            "external_scores": records(self.external()[0]),
            "external_differences": records(self.external()[1]),
        }

    def files(self) -> list[Path]:
        """The evidence of all finished jobs of the present plan, one file a job.

        Raises:
            UserError: no job has finished yet.
        """
        jobs = self.jobs()
        found = [self.evidence_folder / f"{key}.parquet" for key in jobs.loc[jobs["status"] == "done", "job"]]
        if not found:
            raise UserError("no job has finished yet", self.name, "Wait, or run the config again.")
        if missing := [f for f in found if not f.exists()]:
            raise MedsslError(
                f"{len(missing)} evidence file(s) cannot be read: gone", self.name, "Run the config again."
            )
        return found

    @cached_property
    def arrays(self) -> Evidence:
        """The evidence of all finished jobs, as the statistics take it."""
        return self.load(self.settings.evaluate)

    def load(self, part: str, kept: bool = True) -> Evidence:
        """The evidence on a part of the units; `kept` takes the copy beside the tables where there is one."""
        cache = self.path / "tables" if kept else None
        return load_evidence(self.files(), cache, part, self.settings.split.folds, self.family)

    def compute(self, load: Callable[[str], Evidence]) -> dict[str, pd.DataFrame]:
        """All tables, from evidence alone; `load` gives that of a part."""
        return compute_tables(load, self.settings, self.label_counts(), self.main_comparison)

    @property
    def tables_file(self) -> Path:
        """Where the tables are kept: under the hash of the evidence files, the settings and the code behind them."""
        config = self.settings
        decide = ("metrics", "baseline", "replicates", "claim", "arms", "budgets", "split")
        what = [
            evidence_key(self.files()),
            {key: self.config[key] for key in decide},
            config.target.model_dump(),
            code_revision("statistics", "metrics", "experiment/computed.py", "experiment/plan.py"),
        ]
        return self.path / "tables" / f"{digest(what)}.json"

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return kept(self.tables_file, lambda: self.compute(self.load))
