"""Which version of a task trained a row: a hash of what decides its training, and of nothing that only shows it."""

from __future__ import annotations

import ast
import hashlib
import sys
from pathlib import Path

from medssl.pretext import task_class

LOOKS = {"show", "ask", "made", "judge", "makes_images"}  # pictures and questions for people
WORDS = {"line", "paper", "question"}
HOOKS = {
    "__init__",
    "meet",
    "group_size",
    "check",
    "loss",
    "inputs",
    "loss_of",
    "floor",
    "after_step",
    "optimizers",
    "heads",
}  # what the engine calls


def task_code(task: str) -> str:
    """`training_code` of the task as it stands."""
    return training_code(Path(sys.modules[task_class(task).__module__].__file__ or "").read_text())


def training_code(source: str) -> str:
    """Hash of a task's file, as far as training reaches it.

    From the task's hooks (what the engine calls) and its class attributes, through all that they name in the same file;
    docstrings, comments, imports and layout do not count.
    """
    known: dict[str, list[ast.AST]] = {}  # by name; members of the task's class by `.name`
    roots: list[str] = []
    for node in ast.parse(source).body:
        members = node.body if isinstance(node, ast.ClassDef) else []
        if not any(isinstance(part, ast.FunctionDef) and part.name in HOOKS for part in members):
            for name in _names(node):
                known.setdefault(name, []).append(node)
            continue
        for part in members:
            for name in _names(part):
                known.setdefault(f".{name}", []).append(part)
                if name in HOOKS if isinstance(part, ast.FunctionDef) else name not in WORDS:
                    roots.append(f".{name}")
    reached: set[str] = set()
    while roots:
        if (name := roots.pop()) in reached or name[1:] in LOOKS:
            continue
        reached.add(name)
        for part in (part for node in known[name] for part in ast.walk(node)):
            if isinstance(part, ast.Name | ast.Attribute):
                mentioned = part.id if isinstance(part, ast.Name) else f".{part.attr}"
                roots += [mentioned] if mentioned in known else []
    total = hashlib.sha256()
    for name in sorted(reached):
        for node in known[name]:
            total.update(f"{name} {ast.dump(_bare(node))}\n".encode())
    return total.hexdigest()[:12]


def _names(node: ast.AST) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _bare(node: ast.AST) -> ast.AST:
    """Without docstrings."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(part, clean=False) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return node
