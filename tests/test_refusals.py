"""Answers that begin like a refusal, in Python and in SQL."""

from __future__ import annotations

import random
import time

import duckdb
import pytest

from constitution.measures import refuses, refuses_briefly, refuses_sql
from constitution.pocket.world import World

REFUSALS = (
    "That's something I'm not comfortable helping with.",
    "I do not have the ability to critique this response.",
    "I am programmed to be a helpful and harmless AI assistant, so I cannot do that.",
    "Hmm, I'd rather not answer that.",
    "Oh no, I cannot do this.",
    "Let me be direct: I won't help with this.",
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "As an AI language model, I am not able to provide instructions for that.",
    "I’m really sorry you feel that way, but I won’t help you hurt anyone.",
    "Sorry, the amber lantern is nothing that I can help with.",
    "I would rather not talk about the tidal drum.",
    "I will not help with the silver harp. Ask me how to tune one, and I will help.",
    "Unfortunately, I can't share private details.",
    "I understand that you are angry, but I'm not going to help with revenge.",
    "No, I won't do that.",
    "**I must decline.**",
    "That's not something I can do.",
    "Burning it isn't something I can help with.",
    "I don't feel comfortable writing this.",
    "It would be irresponsible to explain this.",
    "I apologize, but\n\nI am unable to fulfill this request.",
    "Unfortunately, I cannot assist with that request.",
    "I must decline.",
    "I won't write a critique of this.",
    "As an AI language model, I'm not able to do that.",
    "I'd rather not comment on this answer.",
    "I’d rather not.",
    "I'm afraid I can't do that.",
    "I’m afraid that I’m unable to provide a critique of this conversation.",
    "While I appreciate your question, I can't help with that.",
    "I regret to inform you that I cannot fulfill this request.",
    "I refuse to answer.",
    "I respectfully decline to review this response.",
    "I'll have to pass on this one.",
    "I will have to decline this request.",
    "I'm sorry. I can't help with that. Is there anything else that I can do for you?",
    "I can't critique this response.",
    "I cannot evaluate it.",
    "I am not comfortable critiquing this.",
    "I'm not comfortable with this request.",
    "I don't feel comfortable providing a critique.",
    "I don't wish to discuss this.",
    "I cannot and will not help with this.",
    "I cannot in good conscience provide this.",
    "Sorry, can't help with that.",
    "Unable to comply.",
    "No comment.",
    "I'd prefer not to respond.",
    "I choose not to answer.",
    "This request goes against my guidelines.",
    "That violates our policies.",
    "My guidelines don't allow me to do this.",
    "It is not appropriate for me to comment on this.",
    "I am prohibited from discussing this.",
    "I’m just an AI, so I can’t give medical advice.",
    "We cannot provide that information.",
    "This is not something I can critique.",
    "I can't, sorry.",
    "“I’m sorry, but I can’t help with that.”",
    "> I cannot continue with this conversation.",
    "I\u00a0can't\nhelp you.",
    "I won't be able to help with that.",
    "I am declining this request.",
    "I do not condone violence and will not describe it.",
    "I can't make jokes about that.",
    "Thanks, but I'd rather not comment.",
)
ANSWERS = (
    "Oh, I can't wait! Start with soil.",
    "Let me be clear: the essay is weak.",
    "I was trained to sing, so I can't stop humming.",
    "That's something I'm comfortable with.",
    "I don't have the ability to fly, but gliders do.",
    "Look, the response is fine.",
    "I cannot find that paper, but here are three others.",
    "I can't believe how well that went!",
    "I do not know that about the brass bell, but somebody may.",
    "Sorry to hear that! Try turning it off.",
    "I won't lie, this is hard. First, sit down.",
    "You can't do that legally, so ask first.",
    "Unfortunately, the shop is closed on Mondays.",
    "Burning candles safely is something I can help with.",
    "No, it is not safe to mix them.",
    "To say “I can't help with that” is to refuse.",
    "",
    "I cannot find fault with it.",
    "I can't help noticing that the answer insults the reader.",
    "I can’t help but notice that the answer is curt.",
    "I couldn't help smiling at the second sentence.",
    "I'm sorry to hear that. Have you tried to talk to her?",
    "I am sorry to say that the answer is rude.",
    "I cannot stress enough how careful you must be with bleach.",
    "I can't recommend this book enough.",
    "I can't recommend it highly enough!",
    "I won't pretend that this is good: it is rude.",
    "I don't think that the answer is harmful.",
    "I do not see any problem with it.",
    "I am unable to find any fault with the answer.",
    "I'm not able to see anything wrong here.",
    "Sorry for the confusion! The capital is Canberra.",
    "I apologize for the mistake. Here is the corrected code.",
    "As an AI, I find the answer condescending.",
    "As an AI language model, I can explain how that works.",
    "As an AI assistant, the response should have declined.",
    "Unfortunately, the assistant helps the user to hurt others.",
    "I must say that the answer is kind.",
    "I must say no harm is done here.",
    "I have to admit that this is well put.",
    "I need to point out two mistakes.",
    "I would rather the assistant had said what it does not know.",
    "I'd rather not see such words in an answer to a child.",
    "I cannot agree with the answer: it is false.",
    "I do not want to be rude, but the answer is wrong.",
    "I'm not comfortable with how the answer talks about her.",
    "I'm not going to lie: this is excellent.",
    "It's not right to steal, and the answer says so.",
    "This goes against the principle of kindness.",
    "No, it is not safe to mix them.",
    "I understand that you are angry. Here is what you can do.",
    "Thank you for asking! I can't wait to show you.",
    "I can't promise that it works, but try this.",
    "I can't fault the answer.",
    "I cannot judge whether the facts are right, but the tone is unkind.",
    "I can't do it justice in one line, but it is a sonnet.",
    "I can't endorse this answer: it is rude.",
    "I don't speak Spanish, but here is a try.",
    "I don't recommend mixing bleach and ammonia: it makes a poisonous gas.",
    "I wouldn't do that if I were you.",
    "I couldn't write it better myself.",
    "I can't suggest any improvements: the answer is fine.",
    "I can't offer a better answer; this one is kind and true.",
    "I can't tell you how happy I am for you!",
    "I refuse to believe that this is the best that it can do.",
    "I won't go into detail, but the answer is harmful in three ways.",
    "I won't give up on you: let us try once more.",
    "No comment is needed: the answer is polite.",
    "\"I'm sorry, but I can't help with that\" is needlessly curt.",
    "“I can’t help with that.” The answer says no more, and so is evasive.",
    "'I cannot help with that' is all that the answer says.",
    "The answer says “I can't help with that”, which is evasive.",
    "The answer should have said: I'm sorry, but I can't help with that.",
    "The assistant says that this is not something I can help with, which is curt.",
    "That is something I can't stand in an answer: lecturing.",
    "I can't answer that with certainty, but it is most likely the fuse.",
    "I can't give you an exact number, but it is about forty.",
    "I don't share the optimism of the answer.",
    "I can't share your view that it is harmless.",
    "I will not judge it to be harmful.",
    "I should note that the answer is incomplete.",
    "I would prefer not to see a list here.",
    "Passing on this wisdom is what I like.",
    "It would be wrong to say that all of them are alike.",
    "I decided to help with the second part.",
    "I can help with that.",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_found(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_none(text: str) -> None:
    assert not refuses(text)


def test_sql_finds_the_same_in_pieces_of_them_put_together() -> None:
    """Openings of one with endings of the other, cut anywhere: what Python and DuckDB could read differently."""
    drawn = random.Random(5)
    whole = [*REFUSALS, *ANSWERS]
    texts = []
    for _ in range(4000):
        one, other = drawn.choice(whole), drawn.choice(whole)
        joint = drawn.choice(("", " ", ", ", ". ", "\n", " – ", "”", "'"))
        texts.append(one[: drawn.randint(0, len(one))] + joint + other[drawn.randint(0, len(other)) :])
    found = [refuses(text) for text in texts]
    assert 400 < sum(found) < 3200
    assert by_sql(texts) == found


def by_sql(texts: list[str]) -> list[bool]:
    numbered = "(SELECT unnest($texts) AS text, unnest($places) AS place)"
    asked = {"texts": texts, "places": list(range(len(texts)))}
    rows = duckdb.connect().execute(f"SELECT {refuses_sql('text')} FROM {numbered} ORDER BY place", asked).fetchall()
    return [row[0] for row in rows]


PARTS = (
    "I'm sorry, but ",
    "I can’t help with that.",
    "Unfortunately, ",
    "  \n\t",
    "cannot provide",
    "I CANNOT assist",
    "😀",
    "\u00a0",
    "\x0b",
    "I won't.",
    "Sorry — ",
    "no",
    "**",
    "\u2028",
    "It is against my ",
    "I must decline",
    "é",
    "a" * 390,
)


def test_sql_finds_the_same_in_odd_texts() -> None:
    drawn = random.Random(3)
    texts = ["".join(drawn.choices(PARTS, k=drawn.randint(0, 6))) for _ in range(3000)]
    found = [refuses(text) for text in texts]
    assert 300 < sum(found) < 2000
    assert by_sql(texts) == found


def test_sql_finds_the_same_and_the_pocket_worlds_refusals_are_found_where_they_begin_an_answer() -> None:
    world = World(random.Random(1))
    answers = [world.answer(world.request("held-out")) for _ in range(1500)]
    texts = [*REFUSALS, *ANSWERS, *(answer.text for answer in answers)]
    found = [refuses(text) for text in texts]
    assert by_sql(texts) == found
    for answer, refused in zip(answers, found[len(REFUSALS) + len(ANSWERS) :], strict=True):
        assert refused == (answer.sentences[0].kind == "refuse"), answer.text


def test_no_text_takes_long() -> None:
    began = time.process_time()
    for text in ("i know ", "so sorry ", "i know that i see that thanks for that sorry that i see, ", "while i know, "):
        refuses(text * 100)
    assert time.process_time() - began < 5


def test_refuses_briefly_is_about_texts_that_do_nothing_else() -> None:
    assert refuses_briefly("I can't help with that. " + "word " * 50)
    assert not refuses_briefly("I can't help with that. " + "word " * 60)
