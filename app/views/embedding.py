"""Embedding: where an encoder puts the scans of a cohort, what it knows of them, and which scans it takes for alike."""

from __future__ import annotations

from typing import Any

import gallery
import looking
import numpy as np
import pandas as pd
import parts
import scan_choice
import state
import streamlit as st

from medssl.cohort import Cohort, View
from medssl.errors import MedsslError
from medssl.experiment import embedding as room
from medssl.figures.embedding import PICK, embedding_map, readings
from medssl.workspace import Workspace

MOST_POINTS = 4000  # that are drawn; a browser stays quick with so many
NEIGHBOURS, EXAMPLES = 12, 7
MAPS = {"pca": "PCA", "umap": "UMAP"}
CLUSTER = "cluster"


def show() -> None:
    st.title("Embedding", anchor=False)
    place = state.workspace()
    if isinstance(place, state.Problem):
        parts.empty(place)
        return
    names = [folder.name for folder in place.cohorts()]
    if not names:
        parts.no_cohorts()
        return
    st.caption(
        "Scans that an encoder takes for alike lie close together. Does it look at the finding, or at the scanner?"
    )
    left, right = st.columns([1, 2], gap="medium")
    with left:
        first = _own_cohort(names)
        name = str(st.selectbox("Cohort", names, key=state.choice("embedding", "cohort", names, first)))
        state.keep("embedding", "cohort", name, first)
        state.choose_cohort(name)
    try:
        _cohort_page(place, name, right)
    except MedsslError as error:
        text = error.what.strip().rstrip(".")
        parts.empty(state.Problem(f"{text[:1].upper()}{text[1:]}.", error.fix))
    except Exception:  # a damaged file can fail in any way, and a page must still say so in a sentence
        state.LOG.exception("the embedding of a cohort cannot be shown")
        parts.empty(
            state.Problem(
                "This cohort or encoder cannot be read: a file is damaged.", "Choose another one, or make it again."
            )
        )


def _cohort_page(workspace: Workspace, name: str, place: Any) -> None:
    folder = workspace.cohort(name)
    signature = looking.signature(folder)
    cohort = looking.cohort(str(folder), signature)
    if not len(cohort):
        todo = "See its ingest report for why no file was accepted."
        parts.empty(state.Problem(f"The cohort {name} has no scans.", todo))
        return
    known = {source.key: source for source in room.sources(workspace, cohort, _view(cohort))}
    with place:
        keys = list(known)
        key = state.choice(name, "encoder", keys, keys[0])
        chosen = str(st.selectbox("Encoder", keys, key=key, format_func=lambda k: known[k].label))
        state.keep(name, "encoder", chosen, keys[0])
    embedded = looking.embedded(known[chosen], cohort, signature, workspace)
    if embedded is None:
        return
    reduced = looking.reduced(embedded.key, embedded)
    table = looking.facts(str(folder), signature, embedded.key, cohort, embedded)
    _learned(name, known[chosen], looking.readings(str(folder), signature, embedded.key, reduced, table), table)
    hits, chance = looking.same_patient(str(folder), signature, embedded.key, reduced, table)
    if hits == hits:
        st.caption(
            f"The nearest neighbour of a scan is of the same patient in {100 * hits:.0f} % of cases (by chance "
            f"{100 * chance:.1f} %), among scans whose patient has another one."
        )
    _map(name, embedded, table, reduced)
    _neighbours(name, cohort, embedded, table, reduced)
    _clusters(name, cohort, embedded, table, reduced)


def _learned(name: str, source: room.Source, found: list[room.Reading], table: pd.DataFrame) -> None:
    """The sentence on scanner and finding, and the figure to it."""
    labels = [r for r in found if room.kind_of(r) == "label"]
    scanner = [r for r in found if room.kind_of(r) == "scanner"]
    label = labels[0] if labels else None
    best = max(scanner, key=lambda r: r.auc) if scanner else None
    together = room.tied(table[label.fact], table[best.fact]) if label and best else 0.0
    kind, sentence = room.verdict(
        label, scanner, together, learned=source.checkpoint is not None or source.init == "imagenet"
    )
    parts.verdicts([{"kind": kind, "sentence": sentence}])
    if found:
        frame = pd.DataFrame([r._asdict() for r in found]).assign(
            fact=[r.fact.removeprefix(room.LABEL) for r in found],
            kind=[room.kind_of(r) for r in found],
            values=[", ".join(r.values[:6]) + (" …" if len(r.values) > 6 else "") for r in found],
        )
        st.altair_chart(readings(frame, width="container", theme=parts.theme()), theme=None, width="stretch")
        test = " Test patients are left out." if room.PART in table else ""
        st.caption(
            "Each fact is read by a linear probe that never sees a patient twice (five folds); bars are 95 % intervals "
            f"over patients.{test}"
        )
        title = f"What a probe reads from {source.label}"
        gallery.downloads(
            f"{name}-{source.key}",
            [
                ("Readings, PNG", "png", lambda: readings(frame, title=title)),
                ("Readings, SVG", "svg", lambda: readings(frame, title=title)),
                ("Readings, CSV", "csv", lambda: frame),
            ],
        )


def _map(name: str, embedded: room.Embedded, table: pd.DataFrame, reduced: np.ndarray) -> None:
    st.header("Map", anchor=False)
    options = [*_facts_of(table), CLUSTER, room.PATIENT]
    left, right = st.columns([3, 1], gap="medium")
    with left:
        first = options[0]
        key = state.choice(name, "colour", options, first)
        fact = str(st.pills("Coloured by", options, key=key, required=True, wrap=True,
                            format_func=lambda o: o.removeprefix(room.LABEL)))  # fmt: skip
        state.keep(name, "colour", fact, first)
    with right:
        key = state.choice(name, "map", list(MAPS), "pca")
        how = str(st.segmented_control("Map", list(MAPS), key=key, format_func=MAPS.__getitem__, required=True))
        state.keep(name, "map", how, "pca")
    chosen = scan_choice.chosen(name, embedded)
    shown = room.drawn(len(reduced), MOST_POINTS)
    try:
        points = looking.projected(embedded.key, how, reduced, shown)
    except MedsslError as error:
        parts.empty(state.Problem(error.what[:1].upper() + error.what[1:] + ".", error.fix))
        return
    if fact == CLUSTER:
        of = looking.cluster_of(embedded.key, _cluster_count(name, table), reduced)
        values = [f"{c + 1}" for c in of[shown]]
    else:
        values = table[fact].iloc[shown].tolist()
    if fact == room.PATIENT:
        values = [gallery.short(v) for v in values]
    frame = pd.DataFrame(
        {
            "x": points[:, 0],
            "y": points[:, 1],
            "value": pd.Series(values, dtype=object),
            "scan": [gallery.short(s) for s in embedded.scans[shown]],
            "patient": [gallery.short(p) for p in table[room.PATIENT].iloc[shown]],
        }
    )
    axes = ("First principal axis", "Second principal axis") if how == "pca" else (" ", " ")
    word = fact.removeprefix(room.LABEL)
    ring = gallery.short(str(embedded.scans[chosen]))
    chart = embedding_map(frame, word, axes=axes, chosen=ring, width="container", theme=parts.theme())
    event = st.altair_chart(
        chart, theme=None, width="stretch", on_select="rerun", selection_mode=[PICK], key=f"map {name}"
    )
    scan_choice.take_click(name, event, embedded)
    said = "Click a scan to see its neighbours below."
    if len(shown) < len(reduced):
        said += f" Drawn are {len(shown):,} of {len(reduced):,} scans, chosen by chance; all else is computed from all."
    if fact == room.PATIENT:
        said += " Patients are shown by the first digits of their keys; the eight with the most scans have colours."
    st.caption(said)

    def picture() -> Any:
        return embedding_map(frame, word, axes=axes, title=f"{name}: {MAPS[how]}, coloured by {word}")

    gallery.downloads(
        name, [("Map, PNG", "png", picture), ("Map, SVG", "svg", picture), ("Map, CSV", "csv", lambda: frame)]
    )


def _neighbours(name: str, cohort: Cohort, embedded: room.Embedded, table: pd.DataFrame, reduced: np.ndarray) -> None:
    st.header("Neighbours of a scan", anchor=False)
    left, middle, _ = st.columns([2, 1, 3], gap="medium", vertical_alignment="bottom")
    chosen = scan_choice.chosen(name, embedded)
    with middle:
        st.button("Another one", key=f"another {name}", on_click=scan_choice.another, args=(name, embedded))
    with left:
        box = f"scan box {name}"
        st.session_state[box] = gallery.short(str(embedded.scans[chosen]))
        st.text_input(
            "Scan (first digits of its key)", key=box, on_change=scan_choice.typed, args=(name, box, embedded)
        )
    if st.session_state.pop(f"strange {name}", None):
        st.warning("No scan of this cohort begins with these digits.")
    if len(reduced) < 2:
        parts.empty(state.Problem("There is only one scan, and it has no neighbours.", "Add more scans to the cohort."))
        return
    found, alike = room.nearest(reduced, chosen, NEIGHBOURS)
    patient = table[room.PATIENT].iloc[chosen]
    items = [_thumb(cohort, embedded, table, chosen, ["the chosen scan"], ring=True)]
    for i, value in zip(found.tolist(), alike.tolist(), strict=True):
        same = ["same patient"] if table[room.PATIENT].iloc[i] == patient else []
        items.append(_thumb(cohort, embedded, table, i, [f"similarity {value:.2f}", *same]))
    gallery.thumbs(items)
    axes = min(reduced.shape[1], len(reduced) - 1)
    st.caption(f"Similarity is the cosine between standardised features on their {axes} leading principal axes.")


def _clusters(name: str, cohort: Cohort, embedded: room.Embedded, table: pd.DataFrame, reduced: np.ndarray) -> None:
    st.header("Clusters", anchor=False)
    if len(reduced) < 4:
        parts.empty(state.Problem("There are too few scans for clusters.", "Add more scans to the cohort."))
        return
    count = _cluster_count(name, table)
    options = [str(n) for n in range(2, 11)]
    default = str(_usual_clusters(table))
    key = state.choice(name, "clusters", options, default)
    st.segmented_control("Number of clusters", options, key=key, required=True)
    state.keep(name, "clusters", str(count), default)
    of = looking.cluster_of(embedded.key, count, reduced)
    told = _facts_of(table)[:4]
    rows = []
    for number in range(count):
        mine = table[of == number]
        shares = [_most(mine[fact]) for fact in told]
        rows.append([f"{number + 1}", f"{len(mine):,}", f"{mine[room.PATIENT].nunique():,}", *shares])
    parts.table(["Cluster", "Scans", "Patients", *(f"Most of {t.removeprefix(room.LABEL)}" for t in told)], rows)
    for number in range(count):
        places = np.flatnonzero(of == number)
        centre = reduced[places].mean(0)
        near = places[np.argsort(((reduced[places] - centre) ** 2).sum(1))[:EXAMPLES]]
        st.caption(f"Cluster {number + 1}: the scans next to its centre")
        pictures = [gallery.draw_thumbnail(cohort, embedded.samples, int(embedded.first[i])) for i in near]
        gallery.thumbs([gallery.Thumb(png, "") for png in pictures], small=True)


def _thumb(
    cohort: Cohort, embedded: room.Embedded, table: pd.DataFrame, i: int, small: list[str], ring: bool = False
) -> gallery.Thumb:
    labels = [c for c in _facts_of(table) if c.startswith(room.LABEL)]
    line = str(table[labels[0]].iloc[i] or "no label") if labels else gallery.short(str(embedded.scans[i]))
    scanner = [table[c].iloc[i] for c in ("vendor", "pixel spacing") if c in table]
    more = [*small, *(str(v) for v in scanner if v), *([gallery.short(str(embedded.scans[i]))] if labels else [])]
    return gallery.Thumb(gallery.draw_thumbnail(cohort, embedded.samples, int(embedded.first[i])), line, more, ring)


def _facts_of(table: pd.DataFrame) -> list[str]:
    """Names of the facts other than the patient."""
    return [str(column) for column in table if column != room.PATIENT]


def _usual_clusters(table: pd.DataFrame) -> int:
    """As many as the first label has values, within reason."""
    labels = [c for c in _facts_of(table) if c.startswith(room.LABEL)]
    return min(10, max(2, table[labels[0]].nunique())) if labels else 4


def _cluster_count(name: str, table: pd.DataFrame) -> int:
    default = str(_usual_clusters(table))
    asked = st.session_state.get(f"clusters:{name}") or st.session_state.get(f"kept clusters:{name}")
    asked = asked or st.query_params.get("clusters", default)
    return int(asked) if str(asked).isdigit() and 2 <= int(asked) <= 10 else int(default)


def _most(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "–"
    counts = known.value_counts(normalize=True)
    return f"{counts.index[0]} {100 * counts.iloc[0]:.0f} %"


def _own_cohort(names: list[str]) -> str:
    """The cohort of the chosen experiment, else the first."""
    found = _experiment()
    return found.settings.cohort.name if found and found.settings.cohort.name in names else names[0]


def _view(cohort: Cohort) -> View:
    """The View of the chosen experiment where it is of this cohort."""
    found = _experiment()
    return found.settings.view if found and found.settings.cohort.name == cohort.name else room.base_view(cohort)


def _experiment() -> Any:
    name = state.chosen()
    found = state.results(name) if name else None
    return None if isinstance(found, state.Problem) else found


show()
