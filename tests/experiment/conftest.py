import numpy as np
import pytest
import yaml
from PIL import Image

CONFIG = {
    "name": "tiny",
    "cohort": {"name": "tiny", "labels": {"file": "labels.csv", "scan": "file", "patient": "patient"}},
    "target": {"name": "label", "unit": "image"},
    "view": {"size": 32},
    "split": {"test": 0.4, "validation": 0.1, "seed": 0},
    "budgets": [2, 5, "all"],
    "draws": 3,
    "replicates": 200,
    "pretraining": {"simclr": {"task": "simclr", "steps": 6, "batch": 16}},
    "arms": {
        "pixels": {"encoder": "pixels"},
        "random": {"encoder": "small"},
        "scratch": {"encoder": "small", "strategy": {"name": "finetune", "min_steps": 3, "batch": 8, "epochs": 0.1}},
        "simclr": {"pretrain": "simclr"},
    },
    "baseline": ["scratch", "pixels"],
    "claim": {"arm": "simclr", "baseline": "scratch", "budget": 5},
}


@pytest.fixture(scope="session")
def tiny_raw(tiny_source):
    """The config as a mapping, to be changed by `raw | changes`."""
    return {**CONFIG, "cohort": {**CONFIG["cohort"], "source": str(tiny_source)}}


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory):
    """60 patients with two images each, two classes that differ in texture and a little in brightness."""
    folder = tmp_path_factory.mktemp("source") / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,patient,label"]
    for patient in range(80):
        label = ("calm", "rough")[patient % 2]
        for image in range(2):
            grid = rng.normal(size=(32, 32)) if label == "rough" else np.repeat(rng.normal(size=(32, 8)), 4, 1)
            pixels = np.clip(120 + 10 * (label == "rough") + 40 * grid, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"scan_{patient}_{image}.png")
            lines.append(f"scan_{patient}_{image}.png,PATIENT{patient},{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tiny_config(tiny_source, tmp_path):
    """Writes the config to a file, with changes."""

    def make(**changes):
        raw = {**CONFIG, **changes}
        raw["cohort"] = {**raw["cohort"], "source": str(tiny_source)}
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return make


@pytest.fixture(scope="session")
def finished(tiny_source, tmp_path_factory):
    """A finished run of the tiny experiment: (results, workspace). Tests must not change it."""
    from medssl.config import Experiment, validate
    from medssl.experiment import run
    from medssl.workspace import Workspace

    raw = {**CONFIG, "cohort": {**CONFIG["cohort"], "source": str(tiny_source)}}
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    return run(validate(Experiment, raw, "tiny"), workspace, processes=1), workspace
