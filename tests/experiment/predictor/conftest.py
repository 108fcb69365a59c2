"""A predictor of each kind of arm, taken away from the tiny experiment; and made-up ones, quicker to make."""

from __future__ import annotations

import shutil

import pytest
import synthetic

from medssl.report import write_predictor


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
    return synthetic.predictor
