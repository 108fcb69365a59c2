"""Screenshots of the app for README and docs, made from a workspace with a finished experiment.

    python docs/make_screenshots.py --workspace medssl_workspace [--experiment demo] [--all]

Writes docs/images/app.png; with --all each page at 1440 and 1024 pixels, light and dark, to look at.
Needs playwright (in the `test` extra) and a Chromium or Chrome on the PATH, or named by CHROMIUM.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PAGES = {
    "home": "",
    "new_run": "new-run",
    "cohort": "cohort",
    "cohort_scans": "cohort?show=Scans",
    "cohort_findings": "cohort?show=Findings",
    "cohort_duplicates": "cohort?show=Duplicates and outliers",
    "cohort_split": "cohort?show=Split and budgets",
    "cohort_card": "cohort?show=Data card",
    "pretraining": "pretraining",
    "app": "label-efficiency",
    "embedding": "embedding",
    "predictions": "predictions",
    "reader": "reader-test",
}
SIZES = [(1440, 900), (1024, 768)]
SHOWN = (1440, 1120)  # in README: down to the end of the curve
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
TALLEST = 6000  # pixels of a picture of a whole page
FLAGS = [  # a browser for tests: no sandbox (containers), no graphics card, nothing that it asks the internet for
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--experiment", help="default: the one that changed last")
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--all", action="store_true", help="every page, 1440 and 1024 pixels, light and dark")
    options = parser.parse_args()
    program = chromium()
    if program is None:
        print("No Chromium: install one, or name it with CHROMIUM.", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with serve(options.workspace) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        wanted = (
            [(n, w, s) for s in SCHEMES for w in SIZES for n in PAGES] if options.all else [("app", SHOWN, SCHEMES[0])]
        )
        for name, size, scheme in wanted:
            file = options.out / (f"{name}-{size[0]}-{scheme}.png" if options.all else f"{name}.png")
            photograph(browser, address, name, file, size, scheme, options.experiment, whole=options.all)
            print(file)
        browser.close()
    return 0


def photograph(
    browser: Any,
    address: str,
    name: str,
    file: Path,
    size: tuple[int, int],
    scheme: Literal["light", "dark"],
    experiment: str | None = None,
    whole: bool = False,
) -> None:
    """One of `PAGES` as a window of this size (width, height in pixels) shows it, or all of it to its end."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    path, asked = PAGES[name], f"experiment={quote(experiment)}" if experiment else ""
    page.goto(f"{address}/{quote(path, safe='?=')}" + ("&" if "?" in path else "?") * bool(asked) + asked)
    page.wait_for_selector(".stMain h1", timeout=60_000)
    page.wait_for_selector('[data-test-script-state="notRunning"]', timeout=60_000)
    page.wait_for_timeout(800)  # fonts, and the charts' first layout
    if whole:  # the page scrolls inside the window: the window grows to its end
        height = page.evaluate("document.querySelector('.stMain').scrollHeight")
        page.set_viewport_size({"width": size[0], "height": min(max(height, size[1]), TALLEST)})
        page.wait_for_timeout(500)
    page.screenshot(path=file)
    page.close()


def chromium() -> str | None:
    """A Chromium or Chrome: `CHROMIUM`, else the first on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def main_page() -> Path:
    """The app's entry: inside the installed package, or beside it in a checkout."""
    import medssl

    package = Path(medssl.__file__).parent
    return next(p for p in (package / "_app" / "main.py", package.parent / "app" / "main.py") if p.exists())


@contextmanager
def serve(workspace: Path, *options: str) -> Iterator[str]:
    """The app on a free port of localhost, as `medssl app` starts it; yields its address. `options` follow `--`."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = {
        "server.address": "localhost",
        "server.port": str(port),
        "server.headless": "true",
        "browser.gatherUsageStats": "false",
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    command = [
        sys.executable,
        str(main_page().with_name("serve.py")),
        "run",
        str(main_page()),
        *arguments,
        "--",
        str(workspace),
        *options,
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    address = f"http://localhost:{port}"
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                    break
            except OSError:
                if server.poll() is not None:
                    raise RuntimeError(f"the app did not start: {server.communicate()[1][-2000:]}") from None
                time.sleep(0.1)
        else:
            raise RuntimeError("the app did not start within 30 s")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=10)


if __name__ == "__main__":
    sys.exit(main())
