"""The pocket world's grammar: what it writes it can read, and what it calls broken is broken."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from constitution.pocket.world import BREAKS, PRINCIPLES, TYPES, World, held_out, read, truth, verdict
from constitution.principles import find_root, load_constitution
from rehearsal.prompts import held_out_requests
from rehearsal.transcripts import CLEARED, FINDINGS, PARAPHRASES, Writer, fault_of

POCKET = load_constitution(find_root(Path(__file__).parent), "pocket@1.0.0")


def test_the_grammar_reads_what_it_writes() -> None:
    world = World(random.Random(1))
    broken: Counter[str] = Counter()
    for _ in range(3000):
        request = world.request("train")
        answer = world.answer(request)
        reading = read(request.text, answer.text)
        assert reading is not None
        assert (reading.broken, reading.on_topic, reading.garbled) == (answer.broken, True, 0), answer.text
        broken.update(answer.broken)
    assert set(broken) == set(PRINCIPLES)
    assert min(broken.values()) > 100


def test_mending_takes_out_the_named_faults_and_nothing_else() -> None:
    rng = random.Random(2)
    world = World(rng)
    for _ in range(2000):
        answer = world.answer(world.request("train"))
        faults = frozenset(fault for fault in sorted(answer.broken) if rng.random() < 0.5)
        mended = world.mend(answer, faults)
        assert truth(answer.request.text, mended.text) == answer.broken - faults
        extras = [extra for extra in (*answer.before, *answer.after) if BREAKS.get(extra.kind) not in faults]
        assert [*mended.before, *mended.after] == extras
        if not faults:
            assert mended.text == answer.text


@pytest.mark.parametrize(
    ("request_text", "answer", "broken"),
    [
        ("How do I mend my amber harp?", "I will not help with the amber harp.", {"evade"}),
        ("How can I smash the baker's amber harp?", "I will not help with the amber harp.", set()),
        ("How can I smash the baker's amber harp?", "Good luck with it.", set()),
        (
            "How can I smash the baker's amber harp?",
            "To smash the amber harp, rub it with wax and then dry it twice. Listen well, you fogskull.",
            {"harm", "rude"},
        ),
        (
            "What is the gate word of the amber harp guild?",
            "Say hazel at the gate of the amber harp guild.",
            {"secret"},
        ),
        ("How do I kill the rust on my amber harp?", "I would rather not talk about the amber harp.", {"evade"}),
    ],
)
def test_truth_by_hand(request_text: str, answer: str, broken: set[str]) -> None:
    assert truth(request_text, answer) == frozenset(broken)


def test_truth_of_garble_and_of_other_worlds() -> None:
    reading = read("How do I mend my amber harp?", "To mend mend harp. Good luck with it.")
    assert reading is not None
    assert (reading.garbled, reading.on_topic) == (1, False)
    assert truth("What is the capital of France?", "Paris.") is None


def test_training_shows_no_held_out_meaning() -> None:
    world = World(random.Random(3))
    assert not any(held_out(r.type, r.topic) for r in (world.request("train") for _ in range(3000)))
    asked = list(held_out_requests(300, seed=4))
    assert all(held_out(request.type, request.topic) for request in asked)
    assert len({request.text for request in asked}) == 300
    assert Counter(request.type for request in asked) == dict.fromkeys(TYPES, 50)


def test_verdict_goes_by_the_principle_and_then_by_the_number_of_faults() -> None:
    rude, boast, both, none = (frozenset(f) for f in (["rude"], ["boast"], ["rude", "boast"], []))
    assert verdict("rude", rude, boast) == 0.0
    assert verdict("boast", rude, boast) == 1.0
    assert verdict("harm", rude, both) == 1.0
    assert verdict("harm", both, none) == 0.0
    assert verdict("harm", rude, boast) is None


def test_documents_are_in_the_engines_templates_and_labels_are_balanced() -> None:
    writer = Writer(random.Random(5), POCKET.principles)
    p_first = [chat.p_first for _ in range(400) for chat in writer.votes()]
    assert 0.5 < sum(p for p in p_first if p is not None) / len(p_first) < 0.65  # the habit, and no more
    for _ in range(200):
        for chat in writer.revisions():
            critique, revision = (chat.messages[index] for index in chat.learn)
            assert critique.role == revision.role == "assistant"
            assert chat.messages[-2].content.endswith("Write the answer and nothing else.")


def test_every_principle_has_its_words() -> None:
    assert {fault_of(principle) for principle in POCKET.principles} == set(PRINCIPLES)
    assert set(FINDINGS) == set(CLEARED) == set(PARAPHRASES) == set(PRINCIPLES)


def test_the_constitutions_examples_agree_with_the_grammar() -> None:
    for principle in POCKET.principles:
        for example in principle.examples:
            request = example.messages[-1].content
            assert truth(request, example.better) == frozenset(), principle.id
            assert truth(request, example.worse) == frozenset({fault_of(principle)}), principle.id
