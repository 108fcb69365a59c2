import numpy as np
import pytest
import torch

from medssl.errors import UserError
from medssl.pretext import task_class
from medssl.transfer import strategy

FEW = {"min_steps": 3, "batch": 4, "unlabeled": 8, "epochs": 0.1}


def watched(method):
    """Let the method keep the batches, losses and accuracies of its self-supervised task."""
    seen = []

    class Watched(method.task):
        def loss(self, batch, generator):
            value, metrics = super().loss(batch, generator)
            seen.append((batch, float(value.detach()), float(metrics["accuracy"])))
            return value, metrics

    method.task = Watched
    return seen


def test_one_encoder_learns_labels_and_rotation_together(problem):
    """Images that are bright above, with the fixture's stripes: rotation and class can both be told."""
    shade = np.linspace(60, -60, 32)[:, None]
    images = np.clip(problem().images + shade, 0, 255).astype(np.uint8)
    method = strategy("s4l", {"min_steps": 40, "batch": 16, "unlabeled": 24})
    seen = watched(method)
    given = problem(images=images)
    fitted = method.fit(given)
    assert np.mean([accuracy for *_, accuracy in seen[-10:]]) > 0.6  # of four
    logits = fitted.logits(fitted.embed(images, given.unit_of, np.arange(30, 60)))
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.85
    units = {unit for batch, *_ in seen for unit in batch.patient.tolist()}
    assert units == set(range(30))  # labeled ones, unlabeled ones, and no test units


@pytest.mark.parametrize("name", ["rotation", "exemplar"])
def test_the_task_is_the_one_that_pretraining_has(problem, name):
    method = strategy("s4l", {**FEW, "task": name})
    assert method.task is task_class(name)
    seen = watched(method)
    method.fit(problem())
    assert len(seen) == 3 and all(np.isfinite(value) for _, value, _ in seen)
    without, with_it = (problem.predict("s4l", {**FEW, "task": name, "weight": weight}) for weight in (0.0, 1.0))
    assert abs(without - with_it).max() > 1e-3


def test_views_of_one_scan_are_no_others_of_each_other(problem):
    seen = watched(method := strategy("s4l", {**FEW, "task": "exemplar"}))
    method.fit(problem())
    for batch, *_ in seen:
        assert torch.equal(batch.patient, batch.index) and batch.rows.tolist() == list(range(4, 12))


def test_settings_of_the_task_are_checked_before_any_job():
    assert strategy("s4l", {"task": "exemplar"}).task_settings.copies == 2
    assert strategy("s4l", {"settings": {"turns": "all"}}).task_settings.turns == "all"
    with pytest.raises(UserError, match=r"s4l.settings(.|\n)*Did you mean 'copies'"):
        strategy("s4l", {"task": "exemplar", "settings": {"copie": 3}})
