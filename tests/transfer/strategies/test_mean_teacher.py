import pytest
import torch

from medssl.transfer import strategy
from medssl.transfer.strategies import mean_teacher

FEW = {"min_steps": 25, "batch": 4, "unlabeled": 4, "epochs": 0.1}


def test_the_predictor_is_the_average_of_the_students_weights(problem, monkeypatch):
    seen, follow = [], mean_teacher.follow

    def watched(teacher, student, momentum):
        if not seen:  # before its first move the teacher is what the student was at first
            seen.append([p.clone() for p in teacher.parameters()])
        follow(teacher, student, momentum)
        seen.append([p.detach().clone() for p in student.parameters()])
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())

    monkeypatch.setattr(mean_teacher, "follow", watched)
    fitted = strategy("mean_teacher", {**FEW, "decay": 0.9}).fit(problem())
    assert len(seen) == 26
    wanted = seen[0]
    for step, student in enumerate(seen[1:]):
        keep = min(1 - 1 / (step + 2), 0.9)
        wanted = [keep * old + (1 - keep) * new for old, new in zip(wanted, student, strict=True)]
    *found, weight, bias = [*fitted.encoder.parameters(), fitted.head.weight, fitted.head.bias]
    for mine, average, last in zip([*found, weight, bias], wanted, seen[-1], strict=True):
        assert torch.allclose(mine, average, atol=1e-5)
        assert mine.ndim < 2 or not torch.equal(mine, last)


def test_the_teacher_counts_little_at_first():
    weights = [mean_teacher.ramp(step, 100) for step in range(100)]
    assert weights[0] == pytest.approx(0.0067, abs=1e-4) and weights[:31] == sorted(weights[:31])
    assert set(weights[30:]) == {1.0}


def test_the_consistency_moves_the_student(problem):
    without, with_it = (problem.predict("mean_teacher", {**FEW, "weight": weight}) for weight in (0.0, 10.0))
    assert abs(without - with_it).max() > 1e-3
