"""docs/transfer_paths.md: each config is what its heading says, and two of them run on small scans."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from medssl.config import Experiment, validate
from medssl.experiment import run
from medssl.experiment.ways import arm_ways
from medssl.transfer import strategy

PAGE = (Path(__file__).parents[1] / "docs" / "transfer_paths.md").read_text(encoding="utf-8")
HEADING = r"^### (\d)\. (Same|Other) task, (same|other) domain, (in sequence|jointly):.*?^```yaml\n(.*?)^```"
FOUND = re.findall(HEADING, PAGE, re.MULTILINE | re.DOTALL)
CONFIGS = {int(n): (f"{task.lower()} task, {domain} domain, {order}", text) for n, task, domain, order, text in FOUND}


def test_there_are_eight_and_all_are_different():
    assert sorted(CONFIGS) == list(range(1, 9)) and len({way for way, _ in CONFIGS.values()}) == 8
    assert PAGE.count("```yaml") == 8


@pytest.mark.parametrize("number", range(1, 9))
def test_a_config_is_valid_and_goes_the_way_of_its_heading(number):
    way, text = CONFIGS[number]
    config = validate(Experiment, yaml.safe_load(text), f"way {number}")
    assert config.name == f"way{number}"
    for name, arm in config.arms.items():
        strategy(arm.strategy_name, arm.strategy_settings)
        assert [str(found) for found in arm_ways(arm, config)] == ([] if name == "scratch" else [way])


def test_what_the_table_says_of_strategies_is_so():
    cells = re.findall(r"(\d)\. ([^|]*)", PAGE[PAGE.index("| | same domain") : PAGE.index("## What a config says")])
    said = {int(n): re.findall(r"`(\w+)`", words) for n, words in cells}
    for number, task, order in ((1, "same", "in sequence"), (5, "same", "jointly"), (7, "other", "jointly")):
        for name in set(said[number]) - {"joint"}:
            assert strategy(name).beside == (task, order), name


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two sources of 40 patients with one 32-pixel image each."""
    folders = {}
    for seed, name in enumerate(("demo_quick", "demo_contrasts_quick")):
        folder = folders[name] = tmp_path_factory.mktemp(name)
        rng, lines = np.random.default_rng(seed), ["file,patient,lesion,side"]
        for number in range(40):
            grid = rng.normal(size=(32, 32)) if number % 2 else np.repeat(rng.normal(size=(32, 8)), 4, 1)
            Image.fromarray(np.clip(125 + 30 * grid, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
            lines.append(
                f"{number}.png,{name}{number},{('ring', 'solid')[number % 2]},{('left', 'right')[number // 20]}"
            )
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folders


@pytest.mark.parametrize("number", [2, 8])
def test_it_runs_on_small_scans(number, small, workspace):
    raw = yaml.safe_load(CONFIGS[number][1])
    labels = {"file": "labels.csv", "scan": "file", "patient": "patient"}
    sources = [raw["cohort"], *(other["cohort"] for other in raw["others"].values())]
    for source in sources:
        source.update(source=str(small[source["name"]]), labels=labels)
    for other in raw["others"].values():
        if "target" in other:
            other["target"] = {"name": "side"}
    for run_ in raw.get("pretraining", {}).values():
        run_ |= {"steps": 2, "batch": 16}
    for arm in raw["arms"].values():
        arm["strategy"] |= {"min_steps": 2, "epochs": 0.1, "batch": 4}
    raw |= {"view": {"size": 32}, "budgets": [2], "draws": 1, "replicates": 100}
    results = run(validate(Experiment, raw, "way"), workspace, processes=1)
    ways = results.ways().set_index("arm").drop("scratch")
    assert ways["way"].tolist() == [CONFIGS[number][0]] and ways["other_labels"].tolist() == [40]
    assert results.complete and results.scores()["score"].notna().all()
