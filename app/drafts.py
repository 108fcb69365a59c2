"""From the choices of the form to a config: the YAML that `medssl run` takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from medssl.config import Experiment, Fractions, validate
from medssl.errors import UserError

COMPARED: dict[str, dict[str, Any]] = {  # arms that need no pretraining of one's own
    "scratch": {"encoder": "small", "init": "random", "strategy": "finetune"},
    "imagenet": {"encoder": "tf_efficientnet_lite0", "init": "imagenet", "strategy": "probe"},
    "random": {"encoder": "small", "init": "random", "strategy": "probe"},
    "pixels": {"encoder": "pixels", "strategy": "probe"},
}
ABOUT = {
    "scratch": "the same network without pretraining, finetuned",
    "imagenet": "a network pretrained on photographs, frozen",
    "random": "an untrained network, frozen",
    "pixels": "no network at all: the raw pixels",
}
USUAL_STEPS = 1000


@dataclass
class Draft:
    """What was chosen; `experiment`, `view`, `split` and `pretraining` hold fields of these config models, `settings`
    those of each task's own."""

    name: str
    cohort: str
    source: str
    target: str
    unit: str
    tasks: list[str]
    strategies: list[str]
    compared: list[str]
    title: str = ""
    claim: dict[str, Any] | None = None
    pretraining: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    experiment: dict[str, Any] = field(default_factory=dict)

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        """Those without pretraining first; a task has one arm a strategy."""
        arms = {name: COMPARED[name] for name in self.compared}
        for task in self.tasks:
            for strategy in self.strategies:
                name = task if len(self.strategies) == 1 else f"{task}_{strategy}"
                arms[name] = {"pretrain": task, "strategy": strategy}
        return arms

    def raw(self) -> dict[str, Any]:
        """As it stands in a YAML file; what is as by default is left out."""
        baseline = self.compared[:2] or list(self.arms)[:1]
        parts: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "cohort": {"name": self.cohort, "source": self.source},
            "target": {"name": self.target, "unit": self.unit},
            "view": self.view,
            "split": self.split,
            **self.experiment,
            "pretraining": {task: {"task": task, **self.pretraining, **self._own(task)} for task in self.tasks},
            "arms": self.arms,
            "baseline": baseline,
            "claim": self.claim,
        }
        return {key: value for key, value in parts.items() if value not in ("", None, {}, [])}

    def yaml(self) -> str:
        return yaml.safe_dump(self.raw(), sort_keys=False, allow_unicode=True)

    def _own(self, task: str) -> dict[str, Any]:
        own = self.settings.get(task)
        return {"settings": own} if own else {}

    def check(self) -> Experiment:
        """
        Raises:
            UserError: it cannot be run as it is.
        """
        encoder = str(self.pretraining.get("encoder", ""))
        if not re.fullmatch(r"[A-Za-z0-9_.]*", encoder):  # timm also takes addresses and folders by name
            raise UserError("an encoder's name has letters, digits, dots and underscores", "encoder", "Choose another.")
        return validate(Experiment, self.raw(), "this form")


def fitting_budgets(smallest_class: int, split: dict[str, Any]) -> list[int | str]:
    """The usual budgets a class that the labels of the pool suffice for, by the number of labeled units of a class."""
    test, validation = (split.get(name, Fractions.model_fields[name].default) for name in ("test", "validation"))
    pool = int(smallest_class * (1 - test - validation))
    usual = Experiment.model_fields["budgets"].default
    return [b for b in usual if b == "all" or b < 0.8 * pool] or ["all"]


def slug(text: str) -> str:
    """A name that a folder may have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-").lower()[:40]


def unused(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken."""
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)
