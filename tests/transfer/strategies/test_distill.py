import copy

import numpy as np
import pytest
import torch

from medssl.encoders import embed_all
from medssl.errors import UserError
from medssl.transfer import strategy, unit_means
from medssl.transfer.strategies.distill import embedded, imitation
from medssl.transfer.unlabeled import predict

TEACHER = {"name": "finetune", "min_steps": 5, "batch": 8, "epochs": 0.1}
FEW = {"teacher": TEACHER, "min_steps": 5, "batch": 8, "unlabeled": 8, "epochs": 0.1}


class Watched:
    """A teacher that keeps what it was given, what it left, and a copy of that."""

    def __init__(self, inner):
        self.inner, self.frozen, self.calls = inner, inner.frozen, []

    def fit(self, problem):
        fitted = self.inner.fit(problem)
        self.calls.append((problem, fitted, copy.deepcopy(fitted)))
        return fitted


def test_the_teacher_is_fixed_and_the_student_comes_to_agree_with_it(problem):
    short = {"min_steps": 40, "unlabeled": 16}
    method = strategy("distill", {**short, "teacher": {"name": "finetune", "min_steps": 30, "batch": 16}})
    method.inner = Watched(method.inner)
    given = problem()
    student = method.fit(given)
    [(_, teacher, before)] = method.inner.calls
    for part in ("head", "encoder"):
        now, then = getattr(teacher, part).state_dict(), getattr(before, part).state_dict()
        assert all(torch.equal(now[name], then[name]) for name in then)
    assert student.encoder is not teacher.encoder
    units = np.arange(60)
    said, taught = (predict(given, fitted, units).argmax(1) for fitted in (student, teacher))
    assert (said == taught).mean() > 0.9


def test_the_teachers_word_at_the_temperature(problem):
    method = strategy("distill", {**FEW, "temperature": 0.5})
    method.inner = Watched(method.inner)
    given = problem()
    wanted = method.taught(given)
    [(_, teacher, _)] = method.inner.calls
    logits = predict(given, teacher, given.pool).astype(np.float64)
    sharp = np.exp(logits / 0.5) / np.exp(logits / 0.5).sum(1, keepdims=True)
    assert np.allclose(wanted[given.pool].numpy(), sharp, atol=1e-5)
    said = torch.randn(4, 3, requires_grad=True)
    taught = torch.randn(4, 3).softmax(1)
    slow = sum(
        -taught[n, c] * torch.log(torch.exp(said[n, c] / 2) / torch.exp(said[n] / 2).sum())
        for n in range(4)
        for c in range(3)
    )
    assert imitation(said, taught, 2.0).item() == pytest.approx(slow.item() / 4, abs=1e-5)


def test_a_frozen_teacher_reads_the_arms_own_embeddings_of_the_pool(problem):
    method = strategy("distill", {**FEW, "teacher": "propagate"})
    method.inner = Watched(method.inner)

    def never():
        raise AssertionError("jobs that train are handed no embeddings")

    given = problem(features=never)
    assert np.isfinite(method.fit(given).head.weight.numpy()).all()
    [(seen, _, _)] = method.inner.calls
    wanted = unit_means(embed_all(given.encoder(given.seed), given.images), given.unit_of, 60)
    assert np.allclose(seen.features()[given.pool], wanted[given.pool], atol=1e-5)
    assert np.isnan(embedded(problem(pool=np.arange(1, 30))).features()[0]).all()


def test_the_student_may_be_another_encoder(problem):
    fitted = strategy("distill", {**FEW, "student": "small_gn"}).fit(problem())
    assert fitted.encoder.name == "small_gn"
    with pytest.raises(UserError, match="smal_gn"):
        strategy("distill", {**FEW, "student": "smal_gn"}).fit(problem())


def test_labels_speak_through_the_teacher_alone_unless_they_are_given_a_share(problem):
    """Of a teacher that says the opposite of the labels."""

    class Liar:
        frozen = False

        def fit(self, given):
            return strategy("finetune", {"min_steps": 25, "batch": 16}).fit(problem(truth=1 - given.truth))

    right = {}
    for share in (0.0, 0.9):
        method = strategy("distill", {"min_steps": 30, "batch": 8, "unlabeled": 16, "labeled": share})
        method.inner = Liar()
        logits = predict(problem(), method.fit(problem()), np.arange(30, 60))
        right[share] = (logits.argmax(1) == problem.label[30:]).mean()
    assert right[0.0] < 0.2 and right[0.9] > 0.7
