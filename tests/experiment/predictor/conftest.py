"""A predictor of each kind of arm, taken away from the tiny experiment; and made-up ones, quicker to make."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from medssl.config import Target, View
from medssl.experiment.predictor import Predictor
from medssl.experiment.predictor.about import About, Calibration, Labels
from medssl.experiment.predictor.known import Known
from medssl.report import write_predictor
from medssl.workspace import digest


@pytest.fixture(scope="session")
def taken(finished, tmp_path_factory):
    """Folder of the predictor of an arm, by name; each is refitted once."""
    made = {}

    def take(arm):
        if arm not in made:
            made[arm] = tmp_path_factory.mktemp("taken") / arm
            write_predictor(finished[0].path, arm, made[arm])
        return made[arm]

    return take


@pytest.fixture(scope="session")
def tested(finished, tiny_source, tmp_path_factory):
    """A folder with the files of the test patients alone, called like the source that they came from."""
    from medssl.ingest.identity import Keys

    results, workspace = finished
    units, keys = set(results.evidence()["unit"]), Keys(workspace)
    folder = tmp_path_factory.mktemp("tested") / tiny_source.name
    folder.mkdir()
    for file in sorted(tiny_source.glob("*.png")):
        if keys.scan(tiny_source.name, file.name) in units:
            shutil.copy(file, folder / file.name)
    return folder


@pytest.fixture
def make_predictor():
    """A predictor of raw pixels: `bright` where a 32-pixel image is brighter than middle gray, else `dark`."""
    from medssl.transfer.fitted import Fitted, LinearHead

    def make(temperature=1.0, encoder=None, familiar=None, view=None, known=None, unit="image"):
        width = 256 if encoder is None else encoder.embed_dim
        slope = np.full((1, width), 20.0 / width, np.float32)
        head = LinearHead(np.concatenate([slope, -slope]), np.array([-10.0, 10.0], np.float32))
        about = About(
            experiment="synthetic",
            arm="pixels",
            target=Target(name="light", unit=unit),
            classes=["bright", "dark"],
            view=view or View(size=32),
            encoder="pixels" if encoder is None else encoder.name,
            head="linear",
            recipe={"arm": {"strategy": "probe"}, "pretraining": None, "encoder": "pixels"},
            calibration=Calibration(temperature=temperature, units=40, rule="Made up."),
            cohort={"name": "virtual", "hash": digest("virtual")},
            labels=Labels(budget="all", draw=0, every=False, units=80, patients=60, job=None),
            versions={"medssl": "0"},
            revision="0",
        )
        usual = Known(
            scans=80,
            patients=60,
            modality={"unknown": 80},
            kind={"image": 80},
            unit={"a.u.": 80},
            spacing=None,
            ranges={"a.u.": (0.0, 255.0)},
            oriented=True,
        )
        return Predictor(about, known or usual, Fitted(head, encoder), familiar)

    return make
