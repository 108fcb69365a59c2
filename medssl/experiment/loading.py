"""Evidence files as arrays: thousands of small Parquet files, read once and kept as one file beside the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import MedsslError
from medssl.metrics import FAMILIES
from medssl.statistics import Evidence, arrange, class_order, read_evidence
from medssl.workspace import atomic, digest

COLUMNS = ["unit", "patient", "cls", "truth"]
ABOUT = ["arm", "budget", "draw", "run", "temperature"]
ABSENT = [*dict.fromkeys(ABOUT[:-1], 0).items(), ("temperature", np.nan)]


def load_evidence(
    files: list[Path], cache: Path | None, part: str, folds: int | None = None, family: str = "classification"
) -> Evidence:
    """The evidence of these jobs on one part of the units; see `read_evidence` for its order.

    Args:
        files: one a job.
        part: `test`, `validation`, or `external:NAME`.
        cache: folder for the copy in one file, which stands for these very files (names, sizes, times of change);
            None reads the files themselves.
        folds: of a repeat where it is cross-fitted; a few dozen labels are read quickly enough without a copy.
        family: of the target's metrics.

    Raises:
        MedsslError: a file is damaged, or was scored on other test units than the others.
    """
    if folds:
        tables = [_table(file, part).to_pandas().assign(job=file.stem) for file in files]
        return read_evidence(pd.concat(tables, ignore_index=True), folds, family)
    ours = f"evidence-{digest(part, 12)}-"  # a part's copies are told from another's by their name
    place = cache / f"{ours}{evidence_key(files)}.npz" if cache else None
    if place is None or not place.exists():
        stored = _read(files, part, family)
        if place is not None:
            with atomic(place) as fresh, fresh.open("wb") as out:
                np.savez(out, allow_pickle=False, **stored)
            for old in place.parent.glob(f"{ours}*.npz"):
                if old != place:
                    old.unlink(missing_ok=True)
    else:
        with np.load(place, allow_pickle=False) as found:
            stored = dict(found)
    jobs = list(zip(stored["arm"].tolist(), stored["budget"].tolist(), stored["draw"], stored["run"], strict=True))
    units, patients, truth = (stored[name] for name in ("units", "patients", "truth"))
    classes, warm = stored["classes"].tolist(), stored.get("temperature")  # copies of earlier versions have none
    return arrange(classes, units, patients, truth, jobs, stored["scores"], family, warm)


def evidence_key(files: list[Path]) -> str:
    """Names the content of these files without reading them."""
    facts = [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
    return digest(facts)


def _read(files: list[Path], part: str, family: str) -> dict[str, np.ndarray]:
    first = _table(files[0], part)
    if not first.num_rows:
        raise MedsslError(f"no unit of '{part}' was scored", "results", "Run the config again.")
    names = first.column("cls").to_pylist()
    classes = class_order(names, family)
    width = len(classes)
    units = np.array(first.column("unit").to_pylist()[::width])
    patients = pd.factorize(np.array(first.column("patient").to_pylist()[::width]))[0]
    columns = [classes.index(name) for name in names[:width]]
    truth = FAMILIES[family].truth(first.column("truth").to_numpy().reshape(-1, width)[:, np.argsort(columns)])
    scores = np.empty((len(files), len(units), width), np.float32)
    about: dict[str, list[Any]] = {name: [] for name in ABOUT}
    for number, file in enumerate(files):
        table = _table(file, part)
        one = {name: table.column(name)[0].as_py() if name in table.column_names else none for name, none in ABSENT}
        if table.num_rows != len(names) or any(not table.column(c).equals(first.column(c)) for c in COLUMNS):
            raise MedsslError(f"arm '{one['arm']}' was not scored on the same test units as the others", "results")
        scores[number] = table.column("score").to_numpy().reshape(-1, width)[:, np.argsort(columns)]
        for name, value in one.items():
            about[name].append(value)
    head = {"classes": np.array(classes), "units": units, "patients": patients, "truth": truth, "scores": scores}
    return head | {name: np.array(values) for name, values in about.items()}


def _table(file: Path, part: str) -> Any:
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    try:
        found = parquet.ParquetFile(file)
        wanted = [c for c in [*COLUMNS, "score", "split", *ABOUT] if c in found.schema_arrow.names]
        table = found.read(columns=wanted)
        return table.filter(compute.equal(table.column("split"), part)).combine_chunks()
    except (OSError, ValueError) as error:
        fix = "Delete the damaged file and run the config again."
        raise MedsslError(f"an evidence file cannot be read ({type(error).__name__})", "results", fix) from None
