"""One compressed series, decoded by several processes, is what one process makes of it."""

from __future__ import annotations

import dicoms
import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless

from medssl.cohort import Cohort
from medssl.ingest import ahead, discover, ingest
from medssl.ingest.fates import Fates
from medssl.ingest.headers import read_headers
from medssl.ingest.identity import Keys
from medssl.ingest.readers.dicom.pixels import PIECE
from medssl.ingest.scans import make_plan

SLICES = 2 * PIECE + 5


@pytest.fixture
def source(tmp_path):
    volume = dicoms.volume((SLICES, 16, 12))
    volume[:, :2] = -2000
    about = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": [-1024 + k % 3 for k in range(SLICES)]}
    objects = dicoms.series(volume, dicoms.AXIAL, PixelPaddingValue=-2000, **about)
    names = [f"{name}.dcm" for name in np.random.default_rng(3).permutation(SLICES)]
    dicoms.save(objects, tmp_path / "source", names, compress=JPEGLSLossless)
    return tmp_path / "source"


def plan(source, workspace):
    keys = Keys(workspace)
    found = discover.find_files([source], keys)
    fates = Fates(found)
    return make_plan(read_headers(found, keys, fates, 0), keys, fates)


def test_the_cohort_is_the_same(tmp_path, source, workspace) -> None:
    cohorts = []
    for jobs in (1, 2):
        ingest([source], tmp_path / f"c{jobs}", workspace=workspace, jobs=jobs)
        cohorts.append(Cohort.open(tmp_path / f"c{jobs}"))
        assert not list((tmp_path / f"c{jobs}" / "arrays").glob("*/.*"))
    (one, two), scan = cohorts, cohorts[0].scans()["scan"][0]
    assert one.scans().iloc[0].astype(str).to_dict() == two.scans().iloc[0].astype(str).to_dict()
    np.testing.assert_array_equal(one.array(scan), two.array(scan))
    np.testing.assert_array_equal(one.padding(scan), two.padding(scan))


def test_images_are_decoded_in_pieces(tmp_path, source, workspace) -> None:
    (job,) = plan(source, workspace)
    ahead.decode_ahead([job], tmp_path / "cohort", 2)
    stacks = [np.load(path) for path in job.payload.decoded]
    assert [len(stack) for stack in stacks] == [PIECE, PIECE, 5]
    ahead.forget(job)
    assert not [path for path in (tmp_path / "cohort").rglob("*") if path.is_file()]
    ahead.decode_ahead([job] * 4, tmp_path / "cohort", 2)  # enough scans for all processes
    assert not [path for path in (tmp_path / "cohort").rglob("*") if path.is_file()]


def test_what_cannot_be_decoded_is_left_to_the_reader(tmp_path, source, workspace) -> None:
    (job,) = plan(source, workspace)
    for file in job.files[:1]:
        with open(file.path, "r+b") as stream:  # noqa: PTH123
            stream.seek(-100, 2)
            stream.truncate()
    ahead.decode_ahead([job], tmp_path / "cohort", 2)
    assert job.payload.decoded == []
    assert not [path for path in (tmp_path / "cohort").rglob("*") if path.is_file()]
