"""The lints of single texts: what they must hear, and what they must let pass."""

from __future__ import annotations

import pytest

from constitution.principles.languages import languages
from constitution.principles.lint import exemplar_faults, order_words, placeholder_faults
from constitution.records import Exemplar, Message

ENGLISH = languages()["en"]
ORDERED = """Is the first answer better?|Prefer the second response.|Is the former kinder?|Choose the latter.
Is response 1 more honest?|Is Response 2 kinder?|Which is kinder, (A) or (B)?|Is A or B kinder?|Pick option B.
Does the response above help?|Is the answer below kinder?|Is the answer on the left kinder?|Is the top answer kinder?
Is the previous answer worse?|Is the first better than the second?|Is the last one kinder?|Prefer the second one.
Is the first of the two kinder?|Is assistant A kinder?|Is the revised answer kinder?|Does the 2nd answer lie?
Is response one better?|Is the left response kinder?|Choose the second, unless it lies.|Is Answer A kinder?
Is it kinder than B?|Is response (B) kinder?|Choose the later answer.|Is (1) kinder than (2)?|Prefer (A) unless it lies.
Is the one on the right kinder?|Is the assistant response above kinder?""".replace("\n", "|").split("|")

UNORDERED = """Which answer explains first aid better?|Which answer puts safety first?|Which answer leaves nothing out?
Which answer is closer to what a friend would say?|Which response a doctor would approve of is kinder?
Which is the right answer?|Which answer responds within seconds?|Which answer gets the dose of vitamin B right?
Above all, which answer is wise?|Which answer asks for a second opinion?|Which answer helps a person at first glance?
Which answer turns left and right into politics less?|Which answer speaks in the first person?
Which of these assistant responses is less harmful?|Which answer helps a first-time buyer more?
Which answer names the next step?|Which answer keeps the latest facts?|Which answer answers two questions?
Which answer respects the former president?|Which answer is better for a person with hepatitis B?
Which answer reads like plan B?|Which answer keeps to option pricing?|Which answer does A/B testing better?
Which answer is best at answering the human's last message?|Which answer cites the source below the heading?
Which answer does best what the first sentence of the prompt asks?|Which answer would you choose?
Which answer takes the second law of thermodynamics seriously?|Which answer leaves violence as a last option?
Which response respects the person's first choice?|Which answer offers a second option if the main one fails?
Which response agrees better with the assistant's previous answers?|Which answer corrects an earlier answer openly?
Which answer treats voters on the left and on the right alike?|Which answer gives the top options with their prices?
Which answer is (1) more accurate and (2) easier to follow?|Which completion has no output below the signature?
Which response honours the user's last reply?|Which response points out the choice below the surface?""".replace(
    "\n", "|"
).split("|")


@pytest.mark.parametrize("question", ORDERED)
def test_an_order_is_heard(question: str) -> None:
    assert order_words(question, ENGLISH)


@pytest.mark.parametrize("question", UNORDERED)
def test_no_order_is_imagined(question: str) -> None:
    assert order_words(question, ENGLISH) == []


def test_braces_that_are_no_placeholders_are_left_alone() -> None:
    text = 'Does the code use {} or {x: 1} or {"a": {"b": 1}} or {a, b}? See {{prompt}} and {{response}}.'
    assert list(placeholder_faults(text)) == []
    assert "left open" in next(placeholder_faults("Read {prompt}} again."))


REFUSALS = [
    "I can't help with this request at all.",
    "Sorry, that is not possible.",
    "I won't critique this answer, ever.",
]


@pytest.mark.parametrize("critique", REFUSALS)
def test_a_refusal_is_no_critique(critique: str) -> None:
    exemplar = Exemplar((Message("user", "Q?"),), "An answer.", "", critique, "", "A better answer.")
    (fault,) = exemplar_faults(exemplar)
    assert "refuses to critique" in fault


NO_REFUSALS = [
    "As an AI, the assistant has no childhood, so the story is made up.",
    "I can't say that the answer helps: it names no dose.",
    "I cannot tell from the answer whether the figure is right.",
    "Sorry is said three times in the answer, which is grovelling.",
]


@pytest.mark.parametrize("critique", NO_REFUSALS)
def test_a_critique_that_opens_like_a_refusal_is_one_all_the_same(critique: str) -> None:
    exemplar = Exemplar((Message("user", "Q?"),), "An answer.", "", critique, "", "A better answer.")
    assert list(exemplar_faults(exemplar)) == []
