"""Answers that begin like a refusal, in Python and in SQL."""

from __future__ import annotations

import random
import time

import duckdb
import pytest

from constitution.measures import refuses, refuses_sql
from constitution.pocket.world import World

REFUSALS = (
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
)
ANSWERS = (
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
)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_found(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_none(text: str) -> None:
    assert not refuses(text)


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
    numbered = "(SELECT unnest($texts) AS text, unnest($places) AS place)"
    asked = {"texts": texts, "places": list(range(len(texts)))}
    rows = duckdb.connect().execute(f"SELECT {refuses_sql('text')} FROM {numbered} ORDER BY place", asked).fetchall()
    assert [row[0] for row in rows] == found


def test_sql_finds_the_same_and_the_pocket_worlds_refusals_are_found_where_they_begin_an_answer() -> None:
    world = World(random.Random(1))
    answers = [world.answer(world.request("held-out")) for _ in range(1500)]
    texts = [*REFUSALS, *ANSWERS, *(answer.text for answer in answers)]
    found = [refuses(text) for text in texts]
    connection = duckdb.connect()
    numbered = "(SELECT unnest($texts) AS text, unnest($places) AS place)"
    asked = {"texts": texts, "places": list(range(len(texts)))}
    rows = connection.execute(f"SELECT {refuses_sql('text')} FROM {numbered} ORDER BY place", asked).fetchall()
    assert [row[0] for row in rows] == found
    for answer, refused in zip(answers, found[len(REFUSALS) + len(ANSWERS) :], strict=True):
        assert refused == (answer.sentences[0].kind == "refuse"), answer.text


def test_no_text_takes_long() -> None:
    began = time.process_time()
    for text in ("i know " * 100, "so sorry " * 100, "i know that i see that thanks for that sorry that i see, " * 20):
        refuses(text)
    assert time.process_time() - began < 5
