"""Open a page of the app on a workspace, as `medssl app` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from streamlit.testing.v1 import AppTest

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from make_screenshots import main_page


def open_page(monkeypatch, workspace: Path, page: str, **query: str) -> AppTest:
    monkeypatch.setattr(sys, "argv", ["main.py", "--workspace", str(workspace)])
    app = AppTest.from_file(str(main_page()), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    app.switch_page(f"views/{page}.py").run()
    assert not app.exception, app.exception[0].message
    return app


def words(app: AppTest) -> str:
    """All text that a page shows."""
    pieces = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption, *app.info, *app.warning, *app.error]
    return " ".join([str(p.value) for p in pieces] + [h.proto.body for h in app.get("html")])


def query(app: AppTest) -> dict[str, str]:
    return {key: value if isinstance(value, str) else value[0] for key, value in app.query_params.items()}
