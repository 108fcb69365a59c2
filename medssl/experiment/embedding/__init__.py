"""Embeddings of a whole cohort: made once under any encoder of the workspace, drawn as a map, and asked what they know.

It lies in this room and not in transfer/ or encoders/, whose code is part of every job's name.
"""

from medssl.experiment.embedding.facts import LABEL, PART, PATIENT, facts
from medssl.experiment.embedding.features import Embedded, Task, embed_scans, estimate, prepare
from medssl.experiment.embedding.maps import clusters, drawn, nearest, principal, project
from medssl.experiment.embedding.reading import Reading, kind_of, read_all, read_out, same_patient, tied, verdict
from medssl.experiment.embedding.sources import Source, base_view, sources

__all__ = [
    "LABEL",
    "PART",
    "PATIENT",
    "Embedded",
    "Reading",
    "Source",
    "Task",
    "base_view",
    "clusters",
    "drawn",
    "embed_scans",
    "estimate",
    "facts",
    "kind_of",
    "nearest",
    "prepare",
    "principal",
    "project",
    "read_all",
    "read_out",
    "same_patient",
    "sources",
    "tied",
    "verdict",
]
