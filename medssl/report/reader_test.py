"""Reader tests: can a person do what a pretext task asks, and is what a network made real? (A good pretext task is one
that people can do; the second is the "colorization Turing test" of Zhang 2016.)

test = ReaderTest.begin(workspace, Quiz(reader="r1", cohort="ours", encoder="ours-rotation", kind="question"))
test.answer(test.next, choice=2, seconds=3.1)    # until test.next is None
score(test.session)

A session is one JSON file under `readers/` of the workspace, written after every answer: the same quiz again goes on
where it stopped. It holds no image and nothing of a patient, and of the reader a chosen pseudonym.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationError, model_validator

from medssl import config
from medssl.cohort import Cohort
from medssl.config import Strict
from medssl.errors import UserError
from medssl.figures.words import number
from medssl.statistics import Proportion, against_chance, against_each_other, p_value, proportion
from medssl.workspace import Workspace, digest, write_json

if TYPE_CHECKING:
    from medssl.report.reader_questions import Asked

LONGEST = 86_400.0  # seconds for one answer


def _pseudonym(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,20}", name):
        what = "a reader's pseudonym has 1 to 20 letters, digits, - and _, and nothing else"
        raise UserError(what, "reader", "Choose a short one that is not your name, such as r1.")
    return name


class Quiz(Strict):
    """What is asked of whom; the same again is the same session.

    Attributes:
        reader: a pseudonym or number: letters, digits, - and _, at most 20. Not a name.
        cohort, encoder: their folders in the workspace.
        kind: the task's own `question`, or which of two images is `real`.
        count: questions.
        seed: of patients, images and questions: readers with the same seed see the same ones.
        feedback: the right answer is shown after each question. What is learned from it is in the score.
    """

    reader: Annotated[str, AfterValidator(_pseudonym)]
    cohort: str
    encoder: str
    kind: Literal["question", "real"] = "question"
    count: Annotated[int, Field(ge=1, le=200)] = 20
    seed: Annotated[int, Field(ge=0)] = 0
    feedback: bool = False

    @property
    def name(self) -> str:
        """Of its session."""
        return f"{self.reader}-{digest(self.model_dump(), 10)}"


class Answer(Strict):
    """One answer: the number of the choice, of the right one, and of the network's (None where it does not judge)."""

    choice: Annotated[int, Field(ge=0)]
    right: Annotated[int, Field(ge=0)]
    network: int | None
    seconds: Annotated[float, Field(ge=0)]


class Session(Strict):
    """What is kept of a quiz.

    Attributes:
        quiz: what was asked for.
        task, steps: of the network.
        sentence: the question.
        questions: how many there are.
        chance: share of right answers by guessing.
        unseen: the network has learned from none of these patients.
        key: names the questions.
        began: date and time, UTC.
        answers: to the first questions, in order.
    """

    quiz: Quiz
    task: str
    steps: int
    sentence: str
    questions: Annotated[int, Field(ge=1)]
    chance: Annotated[float, Field(gt=0, lt=1)]
    unseen: bool
    key: str
    began: str
    answers: list[Answer] = Field(default=[])

    @model_validator(mode="after")
    def _not_too_many(self) -> Session:
        if len(self.answers) > self.questions:
            raise ValueError("more answers than questions")
        return self

    @property
    def finished(self) -> bool:
        return len(self.answers) == self.questions


class ReaderTest:
    """A session and its questions.

    Attributes:
        session: as it is on the disk.
        asked: the questions.
    """

    def __init__(self, workspace: Workspace, session: Session, asked: Asked) -> None:
        self.session, self.asked, self._path = session, asked, workspace.reader(session.quiz.name)

    @classmethod
    def begin(cls, workspace: Workspace, quiz: Quiz) -> ReaderTest:
        """Make the questions, and begin the session or go on with it.

        Raises:
            UserError: there are no such questions, or the session had other ones.
        """
        from medssl.report.reader_questions import ask  # torch takes a while to load, and lists of sessions do without

        for kind, name, known in (
            ("cohort", quiz.cohort, workspace.cohorts()),
            ("encoder", quiz.encoder, workspace.encoders()),
        ):
            if name not in (path.name for path in known):
                fix = f"Known: {', '.join(path.name for path in known) or 'none'}."
                raise UserError(f"this workspace has no {kind} '{name}'", "reader test", fix)
        cohort, checkpoint = Cohort.open(workspace.cohort(quiz.cohort)), workspace.encoder(quiz.encoder)
        checkpoint /= "checkpoint.safetensors"
        asked = ask(cohort, checkpoint, kind=quiz.kind, count=quiz.count, seed=quiz.seed)
        path = workspace.reader(quiz.name)
        if path.is_file():
            session = read_session(workspace, quiz.name)
            if session.key != asked.key:
                what = (
                    "the cohort or the encoder has changed since this session began: its questions are other ones now"
                )
                raise UserError(what, path.name, "Begin a new session with another seed.")
        else:
            session = Session(
                quiz=quiz,
                task=asked.task,
                steps=asked.steps,
                sentence=asked.sentence,
                questions=len(asked.questions),
                chance=1 / len(asked.questions[0].choices),
                unseen=asked.unseen,
                key=asked.key,
                began=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            write_json(path, session.model_dump())
        return cls(workspace, session, asked)

    @property
    def next(self) -> int | None:
        """The first question without an answer, from 0; None at the end."""
        return None if self.session.finished else len(self.session.answers)

    def answer(self, question: int, choice: int, seconds: float) -> None:
        """Note the answer to a question, once: what was answered before, in another window too, stays as it was.

        Raises:
            UserError: there is no such choice.
        """
        self.refresh()
        if question != self.next:
            return
        asked = self.asked.questions[question]
        if not 0 <= choice < len(asked.choices):
            raise UserError(f"there is no answer {choice}", "choice", f"There are {len(asked.choices)}, from 0.")
        took = round(min(max(seconds, 0.0), LONGEST), 2)
        new = Answer(choice=choice, right=asked.truth, network=asked.said, seconds=took)
        self.session = self.session.model_copy(update={"answers": [*self.session.answers, new]})
        write_json(self._path, self.session.model_dump())

    def refresh(self) -> None:
        """Take over what another window has answered."""
        self.session = _read(self._path.read_text(encoding="utf-8"), self._path.name)


class Score(NamedTuple):
    """
    Attributes:
        reader: right answers.
        p: that they are as often right as by guessing (exact binomial test).
        network: on the same questions; None where the network does not judge.
        p_network: that both are as often right (McNemar's exact test).
        seconds: median of an answer.
    """

    reader: Proportion
    p: float
    network: Proportion | None
    p_network: float | None
    seconds: float


def score(session: Session) -> Score | None:
    """Of a session's answers; None before the first."""
    answers = session.answers
    if not answers:
        return None
    right = [a.choice == a.right for a in answers]
    own = proportion(sum(right), len(right))
    p = against_chance(own.right, own.total, session.chance)
    times = sorted(a.seconds for a in answers)
    middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
    if any(a.network is None for a in answers):
        return Score(own, p, None, None, middle)
    network = [a.network == a.right for a in answers]
    return Score(own, p, proportion(sum(network), len(network)), against_each_other(right, network), middle)


def sentences(session: Session) -> list[str]:
    """What a session found, in plain words."""
    found = score(session)
    if found is None:
        return ["No question is answered yet."]
    chance = f"Guessing would give {number(session.chance)}"
    said = [f"The reader was right in {share(found.reader)}. {chance} ({p_value(found.p)} that this is guessing)."]
    if session.quiz.kind == "real":
        wrong = proportion(found.reader.total - found.reader.right, found.reader.total)
        said.append(f"The network's image was taken for the real one in {share(wrong)}.")
    if found.network is None or found.p_network is None:
        said.append("The network has not learned to judge this, so it has no score.")
    else:
        differ = f"({p_value(found.p_network)} that both are equally often right)"
        said.append(f"The network was right in {share(found.network)} of the same questions {differ}.")
    if not session.unseen:
        said.append(
            "The network has learned from these patients: its answers, and what it paints, may be better for it."
        )
    if session.quiz.feedback:
        said.append("The right answers were shown on the way: the score holds what the reader learned from them.")
    return said


def share(found: Proportion) -> str:
    """`17 of 20, 0.850 [0.640, 0.948]`."""
    return f"{found.right} of {found.total}, {number(found.share)} [{number(found.low)}, {number(found.high)}]"


def sessions(workspace: Workspace) -> tuple[list[Session], int]:
    """All sessions of a workspace, the last begun first, and how many files are damaged."""
    found, damaged = [], 0
    for path in workspace.readers():
        try:
            found.append(read_session(workspace, path.stem))
        except UserError:
            damaged += 1
    return sorted(found, key=lambda s: s.began, reverse=True), damaged


def read_session(workspace: Workspace, name: str) -> Session:
    """Raises UserError: no such session, or a damaged file."""
    path = workspace.reader(name)
    if path not in workspace.readers():
        raise UserError("there is no such session of a reader test", name, "Begin one.")
    return _read(path.read_text(encoding="utf-8"), path.name)


def quiz_of(reader: str, cohort: str, encoder: str, **further: object) -> Quiz:
    """A quiz of what a form holds.

    Raises:
        UserError: what cannot be; for a reader's name the rule.
    """
    return config.validate(Quiz, {"reader": reader, "cohort": cohort, "encoder": encoder} | further, "reader test")


def _read(text: str, where: str) -> Session:
    try:
        return Session.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError):
        raise UserError(
            "the file of this session is damaged", where, "Begin a new session with another seed."
        ) from None
