"""A reader test while it goes: one question after the other, with keys for the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pictures
import streamlit as st

from medssl.report.reader_test import ReaderTest

NINE = ("above left", "above", "above right", "left", "", "right", "below left", "below", "below right")
KEYS = "123456789"


def show(test: ReaderTest, pause: Callable[[], None]) -> bool:
    """The next question, or the one just answered where feedback was asked for; False after the last one."""
    review = st.session_state.get("review")
    if review is not None and review < len(test.session.answers):
        _review(test, review)
    elif test.next is not None:
        _question(test, test.next, pause)
    else:
        return False
    return True


def forget() -> None:
    """Leave a test: a pause is not counted as time for an answer."""
    for key in [k for k in st.session_state if str(k).startswith("asked ")] + ["review"]:
        st.session_state.pop(key, None)


def _question(test: ReaderTest, at: int, pause: Callable[[], None]) -> None:
    _head(test, at)
    question = test.asked.questions[at]
    _shown(test, at)
    if isinstance(question.choices[0], str):
        _words(test, at, [str(choice) for choice in question.choices])
    else:
        places = st.columns(len(question.choices), gap="medium")
        for number, (place, choice) in enumerate(zip(places, question.choices, strict=True)):
            with place:
                pictures.image(pictures.url(choice), "", _wide(question.choices), alt=f"choice {number + 1}")
                _button(test, at, number, f"Image {number + 1}")
    st.session_state.setdefault(f"asked {test.session.quiz.name} {at}", time.monotonic())
    st.button("Pause", on_click=pause, help="All answers are kept. The test goes on where it stopped.")


def _head(test: ReaderTest, at: int) -> None:
    total = test.session.questions
    st.progress((at + 1) / total, text=f"Question {at + 1} of {total}")
    st.subheader(test.session.sentence, anchor=False)


def _shown(test: ReaderTest, at: int) -> None:
    question = test.asked.questions[at]
    if question.shown:
        places = st.columns([2] * len(question.shown) + [5 - len(question.shown)], gap="medium")
        for place, panel, caption in zip(places, question.shown, question.captions, strict=False):
            with place:
                pictures.image(pictures.url(panel), caption, 300, alt=caption or "what is asked about")


def _wide(choices: Sequence[object]) -> int:
    """Pixels of a picture that can be chosen."""
    return 420 if len(choices) == 2 else 260


def _words(test: ReaderTest, at: int, choices: Sequence[str]) -> None:
    """Buttons in a row; directions lie as they lie about the first patch."""
    directions = set(choices) == set(NINE) - {""}
    cells = NINE if directions else choices
    across = 3 if directions else len(choices)
    for start in range(0, len(cells), across):
        places = st.columns([1] * across + ([3] if directions else []), gap="small")
        for place, word in zip(places, cells[start : start + across], strict=False):
            with place:
                if word:
                    _button(test, at, choices.index(word), word.capitalize())


def _button(test: ReaderTest, at: int, choice: int, label: str) -> None:
    key, arguments = f"answer {test.session.quiz.name} {at} {choice}", (test, at, choice)
    st.button(label, key=key, on_click=_answer, args=arguments, shortcut=KEYS[choice], width="stretch")


def _answer(test: ReaderTest, at: int, choice: int) -> None:
    begun = st.session_state.pop(f"asked {test.session.quiz.name} {at}", None)
    test.answer(at, choice, 0.0 if begun is None else time.monotonic() - begun)
    st.session_state["review"] = at if test.session.quiz.feedback else None


def _review(test: ReaderTest, at: int) -> None:
    """After an answer, where feedback was asked for: what was right, what was said, what the network said."""
    _head(test, at)
    question, given = test.asked.questions[at], test.session.answers[at]
    names = [c.capitalize() if isinstance(c, str) else f"Image {n + 1}" for n, c in enumerate(question.choices)]
    network = "" if given.network is None else f" The network said: {names[given.network].lower()}."
    if given.choice == given.right:
        st.success(f"Right: {names[given.right].lower()}.{network}")
    else:
        st.error(f"Wrong: it is {names[given.right].lower()}, and not {names[given.choice].lower()}.{network}")
    _shown(test, at)
    if not isinstance(question.choices[0], str):
        for number, (place, choice) in enumerate(
            zip(st.columns(len(names), gap="medium"), question.choices, strict=True)
        ):
            kind: pictures.Kind = "helps" if number == given.right else "hurts" if number == given.choice else ""
            with place:
                pictures.image(pictures.url(choice), names[number], _wide(question.choices), kind)
    st.button("Next", type="primary", key=f"next {at}", on_click=_go_on, shortcut="Enter")


def _go_on() -> None:
    st.session_state["review"] = None
