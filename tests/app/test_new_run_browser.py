"""From a folder of DICOM and a table of labels to a curve, by clicks alone; the browser is closed in between."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from make_screenshots import FLAGS, chromium, serve

pytestmark = pytest.mark.browser
CHART = ".stVegaLiteChart canvas, .stVegaLiteChart svg.marks"
PATIENTS, SIDE = 40, 32


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A DICOM image a patient, of two kinds that differ in texture; and a table beside the folder."""
    folder = tmp_path_factory.mktemp("hospital") / "scans"
    folder.mkdir()
    lines = ["patient,name,lesion"]
    for i in range(PATIENTS):
        rng, kind = np.random.default_rng(i), ("calm", "rough")[i % 2]
        grid = rng.normal(size=(SIDE, SIDE)) if kind == "rough" else np.repeat(rng.normal(size=(SIDE, 8)), SIDE // 8, 1)
        _write(folder / f"{i}.dcm", (1000 + 300 * grid).clip(0, 4000).astype(np.uint16), f"MILLER-{i}")
        lines.append(f"MILLER-{i},Jane Miller the {i}th,{kind}")
    (folder.parent / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def _write(path: Path, pixels: np.ndarray, patient: str) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.PatientID, ds.InstitutionName = "MR", patient, "A hospital"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.PixelData = 15, 0, pixels.tobytes()
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    ds.PixelSpacing, ds.SliceThickness, ds.InstanceNumber = [1.0, 1.0], 1.0, 1
    ds.save_as(path, enforce_file_format=True)


class Tab:
    """A browser of its own, and all that its page complained of, or asked of anyone but our server."""

    def __init__(self, playwright, address: str) -> None:
        self.browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        self.page = self.browser.new_page(viewport={"width": 1440, "height": 1000})
        self.page.set_default_timeout(60_000)
        self.trouble: list[str] = []
        ours = (address + "/", address.replace("http", "ws") + "/", "data:", "blob:")
        self.page.on("console", lambda m: self.trouble.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.trouble.append(str(e)))
        self.page.on("request", lambda r: None if r.url.startswith(ours) else self.trouble.append(r.url))

    def close(self) -> None:
        shown = self.page.locator("body").inner_text()
        self.browser.close()
        assert self.trouble == [] and "MILLER" not in shown.upper() and "Traceback" not in shown


def test_from_a_folder_of_scans_to_a_curve(source, tmp_path):
    if chromium() is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium for the app's browser test")
        pytest.skip("no Chromium on the PATH, nor named by CHROMIUM")
    from playwright.sync_api import sync_playwright

    pictures = os.environ.get("MEDSSL_PICTURES")  # a folder, to look at each step

    def look(page, name: str) -> None:
        if pictures:
            page.wait_for_timeout(500)
            page.screenshot(path=Path(pictures) / f"{name}.png", full_page=True)

    folder = ("--folder", str(source))
    with serve(tmp_path / "workspace", *folder) as address, sync_playwright() as playwright:
        tab = Tab(playwright, address)
        page = tab.page
        page.goto(address)
        page.get_by_role("link", name="New run").click()
        page.get_by_text("40 DICOM").wait_for()
        look(page, "1-scans")
        page.get_by_role("button", name="Read the scans").click()
        page.get_by_text("40 scans of 40 patients").wait_for()
        page.locator("input[type=file]").set_input_files(source.parent / "labels.csv")
        page.get_by_text("40 of 40 rows fit").wait_for()
        look(page, "2-labels")
        page.get_by_role("button", name="Add labels").click()
        page.get_by_role("heading", name="3. What to compare").wait_for()
        look(page, "3-compare")

        arms = page.locator(".stMultiSelect", has_text="Compare with").locator("input")
        for key in ("Backspace", "Backspace"):  # a minute has no time for `imagenet` and `scratch`
            arms.press(key)
            page.wait_for_timeout(400)
        arms.fill("pixels")
        arms.press("Enter")
        arms.press("Escape")
        page.locator(".stExpander summary", has_text="Pretraining").click()
        for label in ("Steps", "Draws"):
            field = page.locator(".stNumberInput", has_text=label).locator("input")
            field.fill("3")
            field.press("Enter")
        page.locator(".stExpander summary", has_text="The same as YAML").click()
        page.get_by_text("steps: 3").wait_for()
        assert "scratch" not in page.locator("code", has_text="steps: 3").first.inner_text()
        look(page, "4-start")
        page.get_by_role("button", name="Start", exact=True).click()
        page.get_by_text("Experiment scans").wait_for()
        page.wait_for_url("**run=run-scans*")
        look(page, "5-running")
        tab.close()

        tab = Tab(playwright, address)
        page = tab.page
        page.goto(address)
        page.get_by_role("link", name="New run").click()
        page.get_by_text("Experiment scans").wait_for()
        page.locator(".m-v", has_text="finished").wait_for()
        look(page, "6-finished")
        page.get_by_role("button", name="Open the curve").click()
        page.wait_for_selector(CHART)
        page.get_by_role("heading", name="Verdict at each budget").wait_for()
        assert "experiment=scans" in page.url
        look(page, "7-curve")
        tab.close()
