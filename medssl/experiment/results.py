"""Results: evidence on disk, and the tables that follow from it."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from medssl.config import Arm, Budget, Experiment, validate
from medssl.errors import MedsslError, UserError
from medssl.experiment.index import Index
from medssl.experiment.ledger import looks
from medssl.experiment.plan import encoder_label
from medssl.statistics import Replicates, differences, read_evidence, scores, verdict_sentence
from medssl.workspace import atomic, code_revision, digest, read_lines


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
    def evidence_folder(self) -> Path:
        return self.path / "results"

    def jobs(self) -> pd.DataFrame:
        """Columns `job, arm, budget, draw, status, seconds, error`."""
        if not (self.path / "jobs.sqlite").exists():
            return pd.DataFrame(columns=["job", "arm", "budget", "draw", "status", "seconds", "error"])
        index = Index(self.path)
        jobs = index.jobs()
        index.close()
        return jobs

    @property
    def complete(self) -> bool:
        jobs = self.jobs()
        return len(jobs) > 0 and bool((jobs["status"] == "done").all())

    def evidence(self) -> pd.DataFrame:
        """One row per job, test unit and class, of all finished jobs of the present plan."""
        import pyarrow.parquet as parquet

        files = [self.evidence_folder / f"{key}.parquet" for key in self._done()]
        if not files:
            raise UserError("no job has finished yet", self.name, "Wait, or run the config again.")
        try:
            return parquet.ParquetDataset([str(f) for f in files]).read().to_pandas()
        except (OSError, ValueError) as error:
            fix = "Delete the damaged file and run the config again."
            raise MedsslError(f"an evidence file cannot be read ({type(error).__name__})", self.name, fix) from None

    def scores(self) -> pd.DataFrame:
        """Columns `arm, budget, metric, score, low, high, draws, units, patients`; NaN bounds: not estimable."""
        return self._tables[0].copy()

    def differences(self) -> pd.DataFrame:
        """Columns `arm, baseline, budget, metric, difference, low, high, verdict, same_encoder`."""
        return self._tables[1].copy()

    def verdicts(self) -> pd.DataFrame:
        """One sentence per budget for the main comparison: the claim's, else the first pretrained arm's."""
        arm, baseline, metric = self.main_comparison
        table = self.differences()
        table = table[(table["arm"] == arm) & (table["baseline"] == baseline) & (table["metric"] == metric)]
        once = bool(self.settings.arms[arm].pretrain)
        how = tuple(self.settings.arms[name].strategy_name for name in (arm, baseline))
        sentences = [verdict_sentence(row, self.settings.per, once, how) for row in table.to_dict("records")]
        return table[["budget", "arm", "baseline", "verdict"]].assign(sentence=sentences).reset_index(drop=True)

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
            rows.append((name, encoder, _initialisation(arm, self.settings), arm.pretrain, arm.strategy_name, size))
        return pd.DataFrame(rows, columns=["arm", "encoder", "init", "pretrain", "strategy", "size"])

    def histories(self) -> dict[str, pd.DataFrame]:
        """Pretraining run -> its log (step, loss, ...)."""
        path = self.path / "pretrained.json"
        keys = json.loads(path.read_text()) if path.exists() else {}
        encoders = self.path.parent.parent / "encoders"
        logs = {name: encoders / key / "history.jsonl" for name, key in keys.items()}
        return {name: pd.DataFrame(read_lines(log)) for name, log in logs.items() if log.exists()}

    def label_counts(self) -> dict[Budget, int]:
        """Budget -> labeled units in total, in one draw."""
        path = self.path / "budgets.json"
        if not path.exists():
            return {}
        first = json.loads(path.read_text())["0"]
        return {budget: len(first[str(budget)]) for budget in self.settings.budgets}

    @property
    def notes(self) -> list[str]:
        """What a reader must know before the figures, in plain sentences."""
        config = self.settings
        notes = [config.note] if config.note else []
        if config.evaluate == "validation":
            notes.append(
                "Scored on the validation patients, to choose a recipe: wherever test patients are named below, "
                "these are meant. Such figures are no result; the test patients were not looked at."
            )
        if not self.complete:
            jobs = self.jobs()
            notes.append(
                f"This run is not finished: {int((jobs['status'] == 'done').sum())} of {len(jobs)} jobs are done."
            )
        if any(arm.pretrain for arm in config.arms.values()):
            notes.append(
                "Each encoder was pretrained once: the intervals hold the chance of labels and test patients, "
                "not that of another pretraining run. Test patients were kept out of pretraining."
            )
        notes.append(
            "Recipes are the config's own and the same at every budget; no validation labels were used in this run. "
            "How the recipes were chosen is not recorded here: whoever reports these figures must say it."
        )
        table = self.arms()
        if table[["encoder", "size"]].drop_duplicates().shape[0] > 1:
            notes.append("Arms with different encoders or input sizes are compared across encoders, and marked so.")
        ledger = self.looks()
        if ledger and config.evaluate == "test":
            notes.append(
                f"The test patients of this cohort have been looked at {len(ledger)} time(s) (see its ledger)."
            )
        return notes

    def looks(self) -> list[dict[str, Any]]:
        """The ledger of looks at the test split of this cohort, by all its experiments."""
        folder = self.facts.get("cohort_folder")
        return looks(self.path / folder) if folder else []

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts rely on: `experiment`, `results`, `scores`, `differences`."""
        return {
            "experiment": str(self.path),
            "results": str(self.evidence_folder),
            "scores": _records(self.scores()),
            "differences": _records(self.differences()),
        }

    def _done(self) -> list[str]:
        jobs = self.jobs()
        return jobs.loc[jobs["status"] == "done", "job"].tolist()

    @cached_property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Both tables, kept on disk under the hash of the evidence and of the code that made them."""
        done, config = self._done(), self.settings
        what = [
            done,
            config.metrics,
            config.baseline,
            config.replicates,
            code_revision("statistics", "metrics"),
        ]
        folder = self.path / "tables"
        files = [folder / f"{digest(what)}-{table}.json" for table in ("scores", "differences")]
        if done and all(f.exists() for f in files):
            return _read_table(files[0]), _read_table(files[1])
        replicates = Replicates(read_evidence(self.evidence()), config.metrics, config.replicates)
        labels = {name: encoder_label(arm, config) for name, arm in config.arms.items()}
        same = {(a, b): labels[a] == labels[b] for a in labels for b in labels}
        tables = (
            self._in_order(scores(replicates)),
            self._in_order(differences(replicates, config.baseline, same)),
        )
        for file, table in zip(files, tables, strict=True):
            with atomic(file) as fresh:
                fresh.write_text(json.dumps({"columns": list(table.columns), "rows": _records(table)}))
        return tables

    def _in_order(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows in the config's order of metrics, arms and budgets."""
        order = {
            "metric": {m: i for i, m in enumerate(self.settings.metrics)},
            "arm": {a: i for i, a in enumerate(self.settings.arms)},
            "budget": {b: i for i, b in enumerate(self.settings.budgets)},
        }
        keys = [c for c in ("metric", "baseline", "arm", "budget") if c in table]
        ranks = {**order, "baseline": order["arm"]}
        sort_keys = table[keys].apply(lambda column: column.map(ranks[str(column.name)]))
        return table.loc[sort_keys.sort_values(keys, kind="stable").index].reset_index(drop=True)


def _initialisation(arm: Arm, config: Experiment) -> str:
    if not arm.pretrain:
        return "none" if arm.encoder == "pixels" else arm.init
    spec = config.pretraining[arm.pretrain]
    return spec.task if spec.weights == "random" else f"{spec.weights}, then {spec.task}"


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows as plain values, NaN as None."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _read_table(path: Path) -> pd.DataFrame:
    raw = json.loads(path.read_text())
    table = pd.DataFrame(raw["rows"], columns=raw["columns"])
    table["budget"] = table["budget"].astype(object)
    numbers = [c for c in ("score", "difference", "low", "high") if c in table]
    table[numbers] = table[numbers].astype(float)
    return table
