"""The report stands alone, says the verdicts, escapes what comes from data, and never shows NaN."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import write_experiment

from medssl.errors import UserError
from medssl.experiment import Results
from medssl.report import publish, terminal_table, write_report


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    return Results.open(write_experiment(tmp_path_factory.mktemp("workspace")))


@pytest.fixture(scope="module")
def report(results, tmp_path_factory) -> str:
    return write_report(results, tmp_path_factory.mktemp("report") / "report.html").read_text()


class Page(HTMLParser):
    """Tags that were opened and not closed, tags that load something, and the visible text."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loading: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [v for k, v in attrs if k == "id" and v]
        if tag in {"script", "link", "img", "iframe", "object", "image", "use"}:
            self.loading.append(tag)
        self.loading += [
            f"{tag} {k}" for k, v in attrs if k in {"src", "href", "xlink:href"} and not (v or "").startswith("#")
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_stands_alone(report):
    page = Page(report)
    assert page.open == [] and page.loading == []
    addresses = set(re.findall(r"https?://[^\"' )<]+", report))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in report and not re.search(r"url\((?!#)", report)


def test_says_that_no_label_chose_a_recipe(report):
    assert "none was chosen by the labels of this experiment" in Page(report).text


def test_charts_are_inline_and_share_no_ids(report):
    page = Page(report)
    assert report.count("<svg") == 4  # the curve, two baselines, the histories
    assert len(page.ids) == len(set(page.ids))
    used = set(re.findall(r"url\(#([^)]+)\)", report))
    assert used <= set(page.ids)


def test_says_verdicts_first_and_all_that_a_reviewer_asks(report, results):
    text = Page(report).text
    sentences = list(results.verdicts()["sentence"])
    assert sentences
    for sentence in sentences:
        assert sentence in text
    assert all(sentence in text for sentence in results.claim_sentences()) and results.claim_sentences()
    assert text.index(sentences[0]) < text.index("Label efficiency")
    for note in results.notes:
        assert note in text
    for fact in (
        "c0ffee12c0ffee12",
        "5eed5eed5eed5eed",
        "Split hash",
        "200 bootstrap replicates",
        "60 images of 45 test patients",
        "named beforehand",
        "have been looked at 0 times",
        "Times as many labels that scratch needs",
        "draw by draw: both models fixed",
        "All other comparisons are exploratory",
        "other task, same domain, in sequence",
        "simclr on virtual",
        "the labels alone",
    ):
        assert fact in text
    assert "Python" in text and "medssl" in text


def test_tables_show_what_results_hold(report, results):
    text = Page(report).text
    row = results.scores().query("arm == 'simclr' and budget == 5 and metric == 'auc'").iloc[0]
    assert f"{row['score']:.3f}" in text
    assert f"[{row['low']:.3f}, {row['high']:.3f}]" in text
    assert "†" in text  # pixels against scratch is a comparison across encoders


def test_escapes_what_comes_from_data(report):
    assert "Synthetic &lt;experiment&gt; &amp; more" in report
    assert "<experiment>" not in report


@pytest.mark.parametrize("case", [{"draws": 2}, {"test_units": 20}])
def test_what_cannot_be_estimated_is_said_in_words(case, tmp_path):
    results = Results.open(write_experiment(tmp_path, **case))
    text = Page(write_report(results, tmp_path / "report.html").read_text()).text
    assert "not estimable" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_no_value_is_shown_as_nan(report):
    assert not re.search(r"\bnan\b|None|undefined", Page(report).text)


def test_publish_writes_files_for_people(tmp_path):
    results = Results.open(write_experiment(tmp_path))
    files = publish(results)
    assert files["report"] == results.path / "report.html" and files["figure"] == results.path / "curve.png"
    assert all(Path(f).stat().st_size > 100 for f in files.values())
    assert files["figure"].read_bytes().startswith(b"\x89PNG")
    assert "budget" in files["scores"].read_text().splitlines()[0]


def test_nothing_finished_is_a_user_error_and_leaves_no_file(tmp_path):
    folder = write_experiment(tmp_path)
    (folder / "jobs.sqlite").unlink()
    with pytest.raises(UserError, match="no job has finished"):
        write_report(Results.open(folder), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_run_in_the_middle_is_reported_as_unfinished(tmp_path):
    from medssl.experiment.index import Index

    folder = write_experiment(tmp_path)
    index = Index(folder)
    for job in index.jobs().query("budget == 'all' and arm == 'simclr'")["job"]:
        index.finish(job, 1.0, "stopped")
    index.close()
    text = Page(write_report(Results.open(folder), tmp_path / "report.html").read_text()).text
    assert "not finished" in text and "44 of 48 jobs are done" in text


def test_numbers_lose_the_zero_before_the_point_and_no_other():
    from medssl.report.terminal import short

    assert [short(v) for v in (0.25, -0.25, 10.5, 1.0, 0.9999)] == [".250", "-.250", "10.500", "1.000", "1.000"]


def test_terminal_table_has_every_arm_and_fits(results):
    text = terminal_table(results)
    assert all(arm in text for arm in ("pixels", "scratch", "rotation", "simclr"))
    assert "simclr: simclr on virtual: other task, same domain, in sequence" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    assert max(map(len, text.splitlines()[1:])) <= 15 + 3 * 12
    score = results.scores().query("arm == 'simclr' and budget == 'all' and metric == 'auc'").iloc[0]["score"]
    assert f"{score:.3f}" in text


def test_the_configuration_can_be_run_elsewhere(tmp_path):
    from medssl.config import load_experiment
    from medssl.report.content import configuration

    results = Results.open(write_experiment(tmp_path))
    text = configuration(results)
    assert "source: /path/to/scans" in text and ": null" not in text
    (tmp_path / "again.yaml").write_text(text)
    again = load_experiment(tmp_path / "again.yaml")
    left = {"cohort"}
    assert again.model_dump(exclude=left) == results.settings.model_dump(exclude=left)
