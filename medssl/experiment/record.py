"""The artefacts of an experiment as the audit reads them: each once, and from its own files."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.cohort import Cohort
from medssl.cohort.arrays import content_hash, read_array
from medssl.cohort.cohort import UNIT_COLUMN
from medssl.cohort.splits import PARTS
from medssl.errors import MedsslError
from medssl.experiment.crossfit import Tested, read_folds
from medssl.experiment.external import PART
from medssl.experiment.results import Results


class Record:
    """The artefacts of one experiment, each read once."""

    def __init__(self, results: Results) -> None:
        self.results, self.path, self.config = results, results.path, results.settings

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    @cached_property
    def cohort(self) -> Cohort:
        return Cohort.open(self.path / self.json("facts.json")["cohort_folder"])

    @cached_property
    def scans(self) -> pd.DataFrame:
        """The catalog's scans, with `actual`: the hash of the voxels that lie there now."""
        return _with_hashes(self.cohort)

    @cached_property
    def external(self) -> dict[str, pd.DataFrame]:
        """The same of each external cohort."""
        names = self.json("facts.json").get("external", {})
        return {name: _with_hashes(Cohort.open(self.external_folder(name))) for name in names}

    def external_folder(self, name: str) -> Path:
        return self.path / self.json("facts.json")["external"][name]

    @cached_property
    def others(self) -> dict[str, tuple[Cohort, pd.DataFrame]]:
        """Entry under `others:` -> its cohort, and the scans of whoever may have taught."""
        taught = self.json("others.json") if self.json("facts.json").get("others") else {}
        found = {}
        for name, patients in taught.items():
            cohort = Cohort.open(self.path / self.json("facts.json")["others"][name]["cohort_folder"])
            scans = _with_hashes(cohort)
            found[name] = cohort, scans[scans["patient"].isin(patients)]
        return found

    @cached_property
    def split(self) -> dict[str, set[str]]:
        raw = self.json("split.json")
        return {part: set(raw[part]) for part in PARTS}

    @cached_property
    def budgets(self) -> dict[int, dict[str, list[str]]]:
        return {int(draw): budgets for draw, budgets in self.json("budgets.json").items()}

    @cached_property
    def patient_of(self) -> dict[str, str]:
        """Unit -> patient, by the catalog."""
        return dict(zip(self.scans[UNIT_COLUMN[self.config.target.unit]], self.scans["patient"], strict=True))

    @cached_property
    def trained(self) -> set[str]:
        """Patients whose labels some draw used."""
        units = {unit for budgets in self.budgets.values() for chosen in budgets.values() for unit in chosen}
        return {self.patient_of[unit] for unit in units}

    @cached_property
    def pretrained(self) -> dict[str, set[str]]:
        """Encoder -> the patients that it was pretrained on."""
        encoders = self.path.parent.parent / "encoders"
        return {
            name: set(json.loads((encoders / key / "patients.json").read_text()))
            for name, key in self.json("pretrained.json").items()
        }

    @cached_property
    def tested(self) -> Tested:
        """Draw -> the units of its fold; none where there is one test part."""
        return read_folds(self.path) if self.config.split.folds else {}

    @cached_property
    def taught(self) -> set[str]:
        """Patients who took part in pretraining or training."""
        return self.trained.union(*self.pretrained.values())

    @cached_property
    def learnt(self) -> set[str]:
        """The same without the validation patients, who are pretrained on by design."""
        return self.taught - self.split["validation"]

    @cached_property
    def apart(self) -> list[tuple[str, set[str], str, set[str]]]:
        """Which sets of patients may not share a picture: (name, patients, name, patients)."""
        test, validation = self.split["test"], self.split["validation"]
        if not self.tested:
            learnt = self.learnt
            return [
                ("training", learnt, "validation", validation),
                ("training", learnt, "test", test),
                ("validation", validation, "test", test),
            ]
        pairs = [("pretraining", set().union(*self.pretrained.values()), "the folds", test)]
        for draw, (taught, fold) in self.folds.items():
            pairs.append((f"the training of draw {draw}", taught, "its fold", fold))
        return pairs

    @cached_property
    def folds(self) -> dict[int, tuple[set[str], set[str]]]:
        """Draw -> patients who taught at any budget, patients who were tested."""
        of = self.patient_of
        taught = {draw: {of[unit] for some in self.budgets[draw].values() for unit in some} for draw in self.tested}
        return {draw: (taught[draw], {of[unit] for unit in fold}) for draw, fold in self.tested.items()}

    @cached_property
    def jobs(self) -> pd.DataFrame:
        """One row an evidence file of the plan: arm, budget, draw, run, seed, split, labels, recipe."""
        return _heads(self.results.files())

    @cached_property
    def everything(self) -> pd.DataFrame:
        """The same for every evidence file in the folder, those of earlier configs too."""
        return _heads(sorted((self.path / "results").glob("*.parquet")))


def _with_hashes(cohort: Cohort) -> pd.DataFrame:
    scans = cohort.scans()
    arrays = (read_array(cohort.path, scan) for scan in scans["scan"])
    return scans.assign(actual=["" if a is None else content_hash(np.asarray(a)) for a in arrays])


def _heads(files: list[Path]) -> pd.DataFrame:
    import pyarrow.parquet as parquet

    columns = ["arm", "budget", "draw", "run", "seed", "split", "labels", "recipe"]
    rows = []
    for file in files:
        about = parquet.read_table(file, columns=columns).to_pandas()
        about = about[~about["split"].str.startswith(PART)].drop_duplicates()
        if len(about) != 1:
            raise MedsslError("an evidence file holds rows of more than one job", "results")
        rows.append(about)
    return pd.concat(rows, ignore_index=True)
