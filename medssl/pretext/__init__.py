"""Self-supervised tasks, one file each. Adding one is adding a file with a PretextTask to this folder.

for name, task in tasks().items():
    print(name, task.paper, task.line)
"""

from __future__ import annotations

import importlib
import pkgutil

from medssl.errors import MedsslError, unknown
from medssl.pretext.base import Batch, PretextTask

__all__ = ["Batch", "PretextTask", "task_class", "tasks"]


def tasks() -> dict[str, type[PretextTask]]:
    """All tasks by name, found by listing this folder; importing one registers its settings with `medssl.config`."""
    for file in pkgutil.iter_modules(__path__):
        if file.name != "base":
            importlib.import_module(f"{__name__}.{file.name}")
    found: dict[str, type[PretextTask]] = {}
    for task in PretextTask.__subclasses__():
        if task.__module__.startswith(__name__ + "."):
            if task.name in found:
                raise MedsslError(f"two files define the task '{task.name}'", task.__module__)
            found[task.name] = task
    return dict(sorted(found.items()))


def task_class(name: str) -> type[PretextTask]:
    """The task of that name.

    Raises:
        UserError: no such task, with the nearest one that exists.
    """
    known = tasks()
    if name not in known:
        raise unknown("pretext task", name, list(known), "task")
    return known[name]
