"""How fast, and in how little memory, a source becomes a cohort.

    python benchmarks/ingest_speed.py [--json] [--quick] [--only NAME ...]

One generated CT series (200 slices of 512 x 512) is taken from its source to a finished cohort, in turns with other
readers that only read it (MONAI) or convert it (dcm2niix without compression). A ratio is that of the medians of 5
rounds; processes have started before the clock does. What every reader gives is compared, voxel by voxel after
reorientation to RAS+, with what was written. The compressed series are read by one and by two processes.
`index_100k_mib` is what 100,000 small files add to the memory of a run, all of its processes together.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pydicom
from processes import peak_mib
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from medssl.cohort import Cohort
from medssl.ingest import ingest
from medssl.workspace import Workspace

BOUNDS: dict[str, tuple[str, float]] = {
    "uncompressed_vs_monai_pydicom": ("at_least", 3.0),  # their time / ours
    "uncompressed_vs_monai_itk": ("at_least", 2.0),
    "uncompressed_vs_dcm2niix": ("at_most", 2.2),  # our time / theirs
    "j2k_two_processes": ("at_least", 1.5),  # time of one process / time of two
    "jpegls_two_processes": ("at_least", 1.5),
    "index_100k_mib": ("at_most", 400.0),
}
SYNTAXES = {"j2k_two_processes": JPEG2000Lossless, "jpegls_two_processes": JPEGLSLossless}
SHAPE, SPACING = (200, 512, 512), (1.25, 0.7, 0.7)
Reader = Callable[[], tuple[np.ndarray, np.ndarray] | None]  # (z, y, x) in RAS+ and its affine; None: nothing to check


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="2 rounds, 40 slices, 5,000 files")
    parser.add_argument("--only", nargs="+", choices=BOUNDS, default=list(BOUNDS), help="these checks alone")
    options = parser.parse_args()
    rounds = 2 if options.quick else 5
    shape = (40, 512, 512) if options.quick else SHAPE
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if rivals := [n for n in options.only if n.startswith("uncompressed")]:
            rows += against_others(folder, shape, rounds, rivals)
        for check in SYNTAXES:
            if check in options.only:
                rows.append(two_processes(folder, shape, rounds, check))
        if "index_100k_mib" in options.only:
            rows.append(index_memory(folder, 5_000 if options.quick else 100_000))
    checks = [
        {"name": row["name"], "value": row["value"], BOUNDS[row["name"]][0]: BOUNDS[row["name"]][1]}
        for row in rows
        if row["value"] is not None
    ]
    machine = {"processor": platform.machine(), "cores": len(psutil.Process().cpu_affinity()), "rounds": rounds}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print(table(rows), "", *map(sentence, checks), sep="\n")
    return 0 if all(map(holds, checks)) else 1


def against_others(folder: Path, shape: tuple[int, int, int], rounds: int, names: list[str]) -> list[dict]:
    """Rows of ours against each of the others that is installed."""
    source = folder / "plain"
    truth = write_series(source, shape)
    others = {
        "uncompressed_vs_monai_pydicom": partial(monai, source, "PydicomReader"),
        "uncompressed_vs_monai_itk": partial(monai, source, "ITKReader"),
        "uncompressed_vs_dcm2niix": partial(dcm2niix, source, folder),
    }
    missing = {name: reason for name in names if (reason := missing_for(name))}
    readers = {name: others[name] for name in names if name not in missing} | {"ours": partial(ours, source, folder)}
    seconds = in_turns(readers, truth, rounds)
    rows = [{"name": name, "value": None, "skipped": reason} for name, reason in missing.items()]
    for name in readers:
        if name != "ours":
            theirs = seconds[name]
            ratio = theirs / seconds["ours"] if BOUNDS[name][0] == "at_least" else seconds["ours"] / theirs
            rows.append(
                {
                    "name": name,
                    "value": round(ratio, 2),
                    "ours_s": round(seconds["ours"], 3),
                    "other_s": round(theirs, 3),
                }
            )
    shutil.rmtree(source)
    return rows


def two_processes(folder: Path, shape: tuple[int, int, int], rounds: int, name: str) -> dict:
    """One compressed series, read by one process and by two in turns."""
    source = folder / name
    truth = write_series(source, shape, SYNTAXES[name])
    readers = {str(jobs): partial(ours, source, folder, jobs) for jobs in (1, 2)}
    seconds = in_turns(readers, truth, rounds)
    shutil.rmtree(source)
    return {
        "name": name,
        "value": round(seconds["1"] / seconds["2"], 2),
        "ours_s": round(seconds["2"], 3),
        "other_s": round(seconds["1"], 3),
    }


def in_turns(readers: dict[str, Reader], truth: tuple[np.ndarray, np.ndarray], rounds: int) -> dict[str, float]:
    """Median seconds of each reader; the round before the first warms up and checks what they give.

    Raises:
        SystemExit: a reader gives other voxels, or lays them elsewhere, than what was written.
    """
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(-1, rounds):
        for name, read in readers.items():
            start = time.perf_counter()
            finish = read()
            seconds[name] += [time.perf_counter() - start] if number >= 0 else []
            got = finish()
            if number < 0:
                if not np.array_equal(got[0], truth[0]):
                    raise SystemExit(f"{name}: other voxels than what was written")
                if not np.allclose(got[1], truth[1], atol=1e-3):
                    raise SystemExit(f"{name}: voxels lie elsewhere than what was written")
    return {name: statistics.median(values) for name, values in seconds.items()}


def ours(source: Path, folder: Path, jobs: int | None = None):
    place = Path(tempfile.mkdtemp(dir=folder))
    ingest([source], place / "cohort", workspace=Workspace(folder / "workspace"), jobs=jobs)

    def finish() -> tuple[np.ndarray, np.ndarray]:
        cohort = Cohort.open(place / "cohort")
        row = cohort.scans().iloc[0]
        got = np.array(cohort.array(row["scan"])), np.array(row["affine"])
        shutil.rmtree(place)
        return got

    return finish


def monai(source: Path, reader: str):
    from monai.transforms import LoadImage

    image = LoadImage(reader=reader, image_only=True)(str(source))
    return lambda: in_ras(image.numpy(), image.affine.numpy())


def dcm2niix(source: Path, folder: Path):
    import dcm2niix as package

    place = Path(tempfile.mkdtemp(dir=folder))
    command = [package.bin, "-z", "n", "-b", "n", "-f", "scan", "-o", str(place), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def finish() -> tuple[np.ndarray, np.ndarray]:
        image = nib.load(place / "scan.nii")
        got = in_ras(np.asarray(image.dataobj), image.affine)
        shutil.rmtree(place)
        return got

    return finish


def in_ras(xyz: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(z, y, x) of an array (x, y, z) turned to the closest RAS+ axes, and its affine."""
    image = nib.as_closest_canonical(nib.Nifti1Image(xyz.astype(np.float32), affine))
    return np.asarray(image.dataobj).transpose(2, 1, 0), image.affine


def missing_for(name: str) -> str | None:
    """Why a reader cannot take part, or None."""
    needs = {"uncompressed_vs_monai_itk": ["monai", "itk"], "uncompressed_vs_dcm2niix": ["dcm2niix"]}
    for package in needs.get(name, ["monai"]):
        try:
            __import__(package)
        except ImportError:
            return f"{package} is not installed (pip install 'medssl[bench]')"
    return None


def index_memory(folder: Path, count: int) -> dict:
    """MiB that `count` files add to the peak memory of all processes of a run, against a run on one series of 200."""
    peaks = {}
    for files in (200, count):
        source = folder / f"index{files}"
        write_small(source, files)
        code = (
            "import sys; from medssl.ingest import ingest; from medssl.workspace import Workspace; "
            "r = ingest([sys.argv[1]], sys.argv[2], workspace=Workspace(sys.argv[3])); print(r.found, r.accepted)"
        )
        place = Path(tempfile.mkdtemp(dir=folder))
        start = time.perf_counter()
        run = subprocess.Popen(
            [sys.executable, "-c", code, str(source), str(place / "cohort"), str(place / "workspace")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        peaks[files] = peak_mib(run)
        seconds = time.perf_counter() - start
        if run.communicate()[0].split() != [str(files).encode()] * 2:
            raise SystemExit("not every small file was accepted")
        shutil.rmtree(source)
        shutil.rmtree(place)
    value = peaks[count] - peaks[200]
    return {"name": "index_100k_mib", "value": round(value, 1), "ours_s": round(seconds, 1), "files": count}


def write_series(folder: Path, shape: tuple[int, int, int], syntax: str = ExplicitVRLittleEndian):
    """A CT series of a noisy trunk, 12 bits in 16; returns (z, y, x) in HU in RAS+ and its affine."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    volume = np.empty(shape, np.int16)  # (slice, row, column) as in the files
    series = template()
    for k in range(shape[0]):
        hu = np.full(shape[1:], -1000.0)
        hu[(x / 0.85) ** 2 + (y / 0.6) ** 2 < 1] = 40
        for side in (-0.4, 0.4):
            hu[((x - side) / 0.25) ** 2 + (y / 0.4) ** 2 < 1 - (k / shape[0] - 0.5) ** 2] = -850
        hu[(x / 0.1) ** 2 + ((y - 0.45) / 0.1) ** 2 < 1] = 700
        volume[k] = np.clip(hu + rng.normal(0, 12, hu.shape), -1024, 3071)
        series.SOPInstanceUID = series.file_meta.MediaStorageSOPInstanceUID = f"{series.SeriesInstanceUID}.{k}"
        series.InstanceNumber = k + 1
        series.ImagePositionPatient = [-180.0, -170.0, k * SPACING[0]]
        series.Rows, series.Columns = shape[1:]
        series.PixelData = (volume[k] + 1024).astype("<u2").tobytes()
        data = copy.deepcopy(series)
        if syntax != ExplicitVRLittleEndian:
            data.compress(syntax, generate_instance_uid=False)
        data.save_as(folder / f"IM{k:04d}.dcm", enforce_file_format=True)
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    affine[:3, 3] = 180, 170, 0
    return in_ras(volume.transpose(2, 1, 0), affine)


def write_small(folder: Path, count: int) -> None:
    """Files of 2 x 2 pixels, so almost header alone, in series of 200 with 1 exam and patient each."""
    data = template()
    data.Rows = data.Columns = 2
    data.PixelData = b"\0\1\2\3\4\5\6\7"
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = "P00000", "1.2.3.900000", "1.2.4.900000"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.5.9000000"
    data.ImagePositionPatient = "-180\\-170\\0000.00"
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    for start in range(0, count, 200):  # pydicom takes minutes to write them: the text is exchanged in place
        place = folder / f"exam{start // 200:05d}"
        place.mkdir(parents=True)
        content = stream.getvalue()
        for old in (b"P00000", b"1.2.3.900000", b"1.2.4.900000"):
            content = content.replace(old, old[:-5] + f"{start // 200:05d}".encode())
        for k in range(200):
            one = content.replace(b"1.2.5.9000000", f"1.2.5.9{start + k:06d}".encode())
            (place / f"IM{k:04d}.dcm").write_bytes(one.replace(b"0000.00", f"{k * SPACING[0]:07.2f}".encode()))


def template() -> pydicom.Dataset:
    from pydicom.data import get_testdata_file

    series = pydicom.dcmread(get_testdata_file("CT_small.dcm"))  # a scanner's header, private elements and all
    series.BitsStored, series.HighBit, series.PixelRepresentation = 12, 11, 0
    series.PixelSpacing, series.SliceThickness, series.SpacingBetweenSlices = list(SPACING[1:]), SPACING[0], SPACING[0]
    series.RescaleSlope, series.RescaleIntercept = 1, -1024
    for name in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue", "DataSetTrailingPadding"):
        series.pop(name, None)
    return series


def table(rows: list[dict]) -> str:
    lines = ["| check | value | ours, s | other, s |", "|---|---|---|---|"]
    for row in rows:
        value = row.get("skipped") or row["value"]
        lines.append(f"| {row['name']} | {value} | {row.get('ours_s', '')} | {row.get('other_s', '')} |")
    return "\n".join(lines)


def holds(check: dict) -> bool:
    return check["value"] >= check["at_least"] if "at_least" in check else check["value"] <= check["at_most"]


def sentence(check: dict) -> str:
    kind = BOUNDS[check["name"]][0]
    word = "holds" if holds(check) else "FAILS"
    return f"{check['name']} = {check['value']}, {kind.replace('_', ' ')} {check[kind]:g}: {word}"


if __name__ == "__main__":
    sys.exit(main())
