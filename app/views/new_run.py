"""From a folder of scans to a curve: scans, labels, what to compare, start. Nothing is computed here but previews."""

from __future__ import annotations

import re
from pathlib import Path

import compare
import parts
import places
import running
import state
import streamlit as st
import unlabeled

from medssl.cohort import Cohort
from medssl.cohort.summary import Summary, summarize
from medssl.config import LabelColumns
from medssl.errors import MedsslError, UserError
from medssl.experiment import processes
from medssl.experiment.processes import ACTIVE, command_line
from medssl.ingest import is_complete
from medssl.ingest.preview import column_names, preview_labels, preview_source, refuse_no_text
from medssl.workspace import Workspace

NEW, OTHER, NONE = "", "Another folder", "none"
PATIENT = ("patient", "patientid", "pid", "subject", "subjectid", "participant", "participantid")  # usual names
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def show() -> None:
    st.title("New run", anchor=False)
    place = state.workspace()
    if isinstance(place, state.Problem):
        parts.empty(place)
        return
    st.caption(
        "From a folder of scans to a label-efficiency curve, or without labels to an embedding. You may close this "
        "page while something runs."
    )
    running.trouble()
    above = st.container()
    st.header("1. Scans", anchor=False)
    name = _choose_cohort(place)
    below = _steps(place, name)
    with above:
        _others(place, name, below)


def _steps(place: Workspace, name: str) -> str:
    """The four steps, as far as they can be taken; returns the name of the run whose card stands in the last."""
    if name == NEW:
        _new_cohort(place)
        return ""
    cohort = _known_cohort(place, name)
    if cohort is None:
        return ""
    st.header("2. Labels", anchor=False)
    if not _labels(place, cohort):
        return ""
    st.header("3. What to compare", anchor=False)
    try:
        draft = compare.form(place, cohort, _source(place, cohort.name))
    except MedsslError as error:
        _say(error)
        return ""
    except Exception:
        _damaged(name)
        return ""
    if draft is None:
        return ""
    st.header("4. Start", anchor=False)
    return compare.start(place, draft)


def _others(place: Workspace, cohort: str, below: str) -> None:
    """Runs that were started before, but for the one below, and what is under way for other cohorts."""
    asked = st.query_params.get("run")
    known = [p for p in processes.processes(place) if p.kind != "estimate"]
    found = [p for p in known if p.kind in ("run", unlabeled.KIND) or (p.status in ACTIVE and p.about != cohort)]
    if asked and asked not in {p.name for p in found}:
        st.info("The run that this link names is not in this list: it was removed, or never started here.")
        st.query_params.pop("run")
    found = [p for p in found if p.name != below]
    if not found:
        return
    with st.container(key="runs"):
        st.subheader("Runs", anchor=False)
        for process in sorted(found, key=lambda p: (p.name != asked, p.status not in ACTIVE))[:8]:
            running.card(process, place)


def _choose_cohort(place: Workspace) -> str:
    names = [p.name for p in place.cohorts()]
    names += [p.about for p in processes.processes(place) if p.kind == "ingest" and p.about not in names]
    asked = st.query_params.get("cohort")
    if "new cohort" not in st.session_state:
        if asked and asked not in names:
            st.warning("This link names a cohort that is not in this workspace: it was deleted, or has another name.")
        st.session_state["new cohort"] = asked if asked in names else NEW
    if st.session_state["new cohort"] not in (NEW, *names):
        st.warning("The cohort was deleted. Choose another one, or read its scans again.")
        st.session_state["new cohort"] = NEW
    words = {NEW: "A new one, from a folder of scans"}
    name = st.selectbox("Cohort", [NEW, *names], key="new cohort", format_func=lambda n: words.get(n, n))
    if name:
        st.query_params["cohort"] = name
    else:
        st.query_params.pop("cohort", None)
    return str(name)


def _new_cohort(place: Workspace) -> None:
    folders = places.listed()
    choices = [str(p) for p in places.offered(place, folders)]
    left, right = st.columns(2, gap="medium")
    with left:
        choice = st.selectbox("Folder of scans", [*choices, OTHER], key="new folder", format_func=_named)
        if choice == OTHER:
            choice = st.text_input("Path of the folder", key="new path", placeholder="/path/to/scans").strip()
    if not choice:
        parts.empty(
            state.Problem("Name a folder with DICOM, NIfTI or image files.", "Archives (zip, tar) in it are read too.")
        )
        return
    try:
        folder = places.allowed(choice, place, folders)
        taken = {p.name for p in place.cohorts()}
        with right:
            first = compare.unused(compare.slug(folder.name) or "scans", taken)
            name = st.text_input("Name of the cohort", first, key=f"name of {folder}").strip()
        if not re.fullmatch(NAME, name):
            raise UserError("a cohort's name has letters, digits, dot, dash and underscore", "", "Choose another name.")
        st.markdown(parts.plain(_look(str(folder), str(place.path))))
    except MedsslError as error:
        _say(error)
        return
    arguments = ["ingest", str(folder), "--cohort", str(place.cohort(name)), "--workspace", str(place.path), "--json"]
    _command(arguments)
    words = "Go on with this cohort" if name in taken else "Read the scans"
    st.button(words, type="primary", key="ingest", on_click=_ingest, args=(place, name, arguments))


def _named(folder: str) -> str:
    """The name first: a long path is cut at its end."""
    path = Path(folder)
    return f"{path.name} (in {path.parent})" if path.is_absolute() else folder


def _ingest(place: Workspace, name: str, arguments: list[str]) -> None:
    running.start(place, "ingest", name, arguments)
    st.session_state["new cohort"] = name


def _known_cohort(place: Workspace, name: str) -> Cohort | None:
    """The cohort, once it can be worked with; else a sentence and None."""
    process = processes.find(place, f"ingest-{name}")
    if process is not None and process.status != "done":
        running.card(process, place)
        if process.status in ACTIVE:
            return None
    try:
        if not is_complete(place.cohort(name)):
            raise UserError(
                "the scans of this cohort have not all been read",
                "",
                "Resume above, or choose a new cohort with the same folder and this name: it goes on.",
            )
        cohort = Cohort.open(place.cohort(name))
        facts = summary(cohort)
    except MedsslError as error:
        _say(error)
        return None
    except Exception:
        _damaged(name)
        return None
    kinds = ", ".join(f"{part.scans:,} {part.name}" for part in facts.parts[:4])
    st.markdown(f"**{facts.scans:,} scans of {facts.patients:,} patients**: {parts.plain(kinds)}.")
    serious = [f for f in facts.findings if f["severity"] != "info"]
    if serious:
        with st.expander(f"{len(serious)} kinds of findings, warnings or errors"):
            rows = [[f["sentence"], f["todo"], f"{max(f['scans'], f['files']):,}"] for f in serious]
            parts.table(["Finding", "What to do", "Scans or files"], rows, words=2)
    return cohort


def _labels(place: Workspace, cohort: Cohort) -> bool:
    """Whether there are labels to predict; and the way to more of them."""
    process = processes.find(place, f"label-{cohort.name}")
    if process is not None and process.status == "done":
        places.drop_upload(process.arguments[2], place)
    elif process is not None:
        running.card(process, place)
    facts = summary(cohort)
    if facts.values:
        rows = []
        for target, count in facts.values.items():
            named = ", ".join(f"{c['value']} ({c['scans']:,})" for c in facts.classes.get(target, []))
            rows.append([target, named or f"{count:,} different values"])
        parts.table(["Label", "Classes (scans)"], rows, words=2)
    else:
        todo = "Add them from a table, a line a scan or patient. Or pretrain without any: see below."
        parts.empty(state.Problem("This cohort has no labels yet.", todo))
    with st.expander("Add labels from a table", expanded=not facts.values):
        try:
            _add_labels(place, cohort)
        except MedsslError as error:
            _say(error)
    unlabeled.form(place, cohort, first=not facts.values)
    return bool(facts.values)


def _add_labels(place: Workspace, cohort: Cohort) -> None:
    file = _table(place, cohort)
    if file is None:
        return
    names = column_names(file)
    left, middle, right = st.columns(3, gap="medium")
    with left:
        scan = st.selectbox("Column with the scan", ["find it", *names], help="File name, path or folder of each scan.")
    with middle:
        at = next((i for i, name in enumerate(names, 1) if name.lower().replace("_", "") in PATIENT), 0)
        who = "The patient's id: where files do not carry one, or to match rows by patient."
        patient = st.selectbox("Column with the patient", [NONE, *names], at, help=who)
    with right:
        group = st.selectbox("Column with groups", [NONE, *names], help="Equal values stay on one side of the split.")
    roles = [None if value in (NONE, "find it") else value for value in (scan, patient, group)]
    free = [name for name in names if name not in roles]
    targets = st.multiselect("Columns to predict", free, placeholder="all that cannot name a patient")
    columns = LabelColumns(file=str(file), scan=roles[0], patient=roles[1], group=roles[2], targets=targets)
    found = preview_labels(cohort, columns, place)
    st.markdown(
        f"**{found.rows:,} of {found.table_rows:,} rows fit**, by the column {parts.plain(found.matched_by)}; "
        f"{found.scans:,} of {found.all_scans:,} scans get a label"
        + (f", of {found.patients:,} patients." if found.patients else ".")
    )
    rows = []
    for target, count in found.values.items():
        named = ", ".join(f"{value} ({scans:,})" for value, scans in found.classes[target].items())
        rows.append([target, named or f"{count:,} different values, not shown: they could name a patient"])
    parts.table(["Label", "Classes (scans)"], rows, words=2)
    if found.odd:
        st.caption(f"Left out, since they look like ids or free text: {parts.plain(', '.join(found.odd))}.")
    arguments = ["label", str(cohort.path), str(file)]
    for option, value in zip(("--scan-column", "--patient-column", "--group-column"), roles, strict=True):
        arguments += [option, value] if value else []
    for target in targets:
        arguments += ["--target", target]
    arguments += ["--workspace", str(place.path), "--json"]
    _command(arguments)
    st.button("Add labels", type="primary", key="label", on_click=_label, args=(place, cohort.name, arguments))


def _label(place: Workspace, name: str, arguments: list[str]) -> None:
    running.start(place, "label", name, arguments)
    st.session_state["uploads"] = st.session_state.get("uploads", 0) + 1  # an empty uploader: the table is on its way


def _table(place: Workspace, cohort: Cohort) -> Path | None:
    """The label table that was uploaded or named."""
    left, right = st.columns(2, gap="medium")
    with left:
        key = f"upload {st.session_state.get('uploads', 0)}"
        given = st.file_uploader("Upload a table (CSV or TSV)", ["csv", "tsv", "txt"], key=key)
    with right:
        near = Path(_source(place, cohort.name)) / "labels.csv"
        first = str(near) if near.is_file() else ""
        named = st.text_input("Or name its path", first, key=f"table of {cohort.name}", placeholder="/path/labels.csv")
    if given is not None:
        content = given.getvalue()
        refuse_no_text(given.name, len(content), content[:4096])
        st.caption("The table is kept in the workspace, for its owner only, until its labels are in the cohort.")
        return places.keep_upload(given.name, content, place)
    return places.allowed(named.strip(), place, places.listed()) if named.strip() else None


def _source(place: Workspace, name: str) -> str:
    """The folder that the cohort was read from, where it was read here; else its name."""
    process = processes.find(place, f"ingest-{name}")
    return process.arguments[1] if process is not None else name


def summary(cohort: Cohort) -> Summary:
    return _summary(str(cohort.path), (cohort.path / "catalog.sqlite").stat().st_mtime_ns, _wal(cohort))


def _wal(cohort: Cohort) -> int:
    log = cohort.path / "catalog.sqlite-wal"
    return log.stat().st_mtime_ns if log.exists() else 0


@st.cache_data(max_entries=16, show_spinner="Reading the cohort …")
def _summary(path: str, changed: int, changed_log: int) -> Summary:
    """Counted once for each state of the catalog; the times are the key, nothing more."""
    return summarize(Cohort.open(path))


@st.cache_data(ttl=300, max_entries=16, show_spinner="Looking at the folder …")
def _look(folder: str, workspace: str) -> str:
    return str(preview_source(folder, Workspace(workspace)))


def _command(arguments: list[str]) -> None:
    with st.expander("The same in a terminal"):
        st.code(command_line(arguments), language="bash", wrap_lines=True)


def _damaged(cohort: str) -> None:
    """For files that fail in any way that nobody foresaw."""
    state.LOG.exception("cohort %s cannot be read", cohort)
    _say(UserError("the files of this cohort are damaged", "", "Read its scans again under another name."))


def _say(error: MedsslError) -> None:
    parts.empty(state.problem(error))


show()
