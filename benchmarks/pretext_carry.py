"""Rows of the table whose task's file changed and trains as before: prove that, and keep them.

    python benchmarks/pretext_carry.py COMMIT [--tasks NAME ...] [--steps 4] [--workspace FOLDER]

A row holds for the file of its task that trained it (`pretext_code.py`). Some changes of that file leave training as it
was: those for several processes, say, or of the floor. For each stored row that COMMIT's file trained, this takes the
first steps twice on the row's own scans, with medssl as it is at COMMIT and as it is here, and compares every loss and
every weight. Where all are equal to the bit the row gets the `task_code` and the floor of this file, and `carried` says
where from. A row that differs is left as it is, and `pretext_table.py` measures it anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pretext_code import training_code
from pretext_page import RESULTS, write_page
from pretext_table import Row, Variant

from medssl.pretext import tasks
from medssl.progress import say
from medssl.workspace import Workspace, write_json

HERE = Path(__file__).resolve().parent


def first_steps(what: dict[str, Any], steps: int, workspace: Workspace) -> dict[str, Any]:
    """Losses of the first steps of a row's pretraining, a hash of all weights after them, and the floor."""
    how = {name: what[name] for name in ("draws", "replicates", "finetune")}
    variant = Variant(what["batch"], what["pool"], what["imagenet"])
    row = Row(what["task"], what["set"], what["minutes"], how, workspace.path, variant)
    plan = row.plan(row.experiment(workspace), workspace)
    loop = row.request(plan, workspace).loop(100)
    floor = loop.floor()
    losses = [float(loop.step(step)["loss"]) for step in range(steps)]
    total = hashlib.sha256()
    for name, value in sorted(loop.task.state_dict().items()):
        total.update(name.encode() + value.cpu().numpy().tobytes())
    return {"losses": losses, "weights": total.hexdigest(), "floor": floor}


def elsewhere(tree: Path, what: dict[str, Any], steps: int, workspace: Path) -> dict[str, Any]:
    """`first_steps` of the medssl in a folder."""
    call = "import json, sys, pretext_carry as c; print(json.dumps(c.first_steps(*json.loads(sys.argv[1]), "
    call += "c.Workspace(c.Path(sys.argv[2])))))"
    env = os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{HERE}"}
    done = subprocess.run(
        [sys.executable, "-c", call, json.dumps([what, steps]), str(workspace)],
        env=env, cwd=tree, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="whose medssl trained the rows")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", choices=list(tasks()), default=list(tasks()))
    parser.add_argument("--steps", type=int, default=4, help="to be compared")
    parser.add_argument("--workspace", type=Path, help="default: $MEDSSL_WORKSPACE, else ./medssl_workspace")
    options = parser.parse_args()
    workspace, different = Workspace(options.workspace).path.resolve(), 0
    with tempfile.TemporaryDirectory() as room:
        tree = Path(room) / "medssl"
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), options.commit], cwd=HERE, check=True)
        try:
            for task in options.tasks:
                source = Path("medssl") / "pretext" / f"{task}.py"
                before, now = (training_code((root / source).read_text()) for root in (tree, HERE.parent))
                for file in sorted(RESULTS.glob("pretext_*.json")):
                    row = json.loads(file.read_text())
                    what = row.get("what", {}) if isinstance(row, dict) else {}
                    if before == now or (what.get("task"), what.get("task_code")) != (task, before):
                        continue
                    old, new = (elsewhere(root, what, options.steps, workspace) for root in (tree, HERE.parent))
                    same = all(old[part] == new[part] for part in ("losses", "weights"))
                    say(f"{file.stem}: {'trains as before' if same else 'trains differently'}")
                    different += not same
                    if same:
                        what["task_code"] = now
                        row["pretext"]["floor"] = round(new["floor"][row["pretext"]["measure"]], 4)
                        row["carried"] = [*row.get("carried", []), {"commit": options.commit, "task_code": before}]
                        write_json(file, row)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=HERE, check=True)
    say(f"written: {write_page().name}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
