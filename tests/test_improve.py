"""Wordings of principles tried against gold: what is kept, what is left alone, what is spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.improve import judging
from benchmarks.improve_world import (
    END,
    LEADING,
    MEANS,
    OPPOSITE,
    RIGHT,
    VAGUE,
    ScriptedWriter,
    broken,
    constitution,
    gold_of,
)
from constitution.errors import InputError, PrincipleError
from constitution.identity import digest
from constitution.measures.paired import gains_needed, holm, prompts_needed, rise, sign_test
from constitution.principles import load_constitution
from constitution.principles.languages import known
from constitution.propose.gold import Gold, GoldPair, read_gold
from constitution.propose.improve import Proposer, Settings, Trial, Writers, conversation, improve, is_held_out
from constitution.propose.judging import Asked, Heard
from constitution.propose.spent import read_spent
from constitution.propose.wordings import Wording, Writer, Wrong
from constitution.records import Constitution, Principle

ROOT = Path(__file__).parent.parent
SHIPPED = load_constitution(ROOT / "principles", "pocket@1.1.0")


@dataclass
class Knowing:
    """A judge that knows the grammar and errs on a share of the pairs, other ones for each wording."""

    errs: float = 0.12
    deaf: Callable[[str], bool] = lambda question: False
    """Wordings on which it has votes on every second pair alone."""
    heard: list[tuple[str, int]] = field(default_factory=list)

    def asks(self, principle: Principle) -> str:
        return digest(principle.comparison_question)

    async def hear(self, asked: Asked) -> Heard:
        self.heard += [(principle.comparison_question, len(pairs)) for principle, pairs in asked]
        return [[self._vote(principle.comparison_question, gold) for gold in pairs] for principle, pairs in asked]

    def _vote(self, question: str, gold: GoldPair) -> float | None:
        fault, less = MEANS[question.removesuffix(END)]
        bits = int(digest([question, gold.key])[:8], 16)
        if self.deaf(question) and bits % 2:
            return None
        a, b = (broken(gold.prompt.messages[-1].content, text) for text in (gold.pair.a.text, gold.pair.b.text))
        lean = (fault in a) - (fault in b) if fault else (len(a) > len(b)) - (len(a) < len(b))
        lean = lean if less else -lean
        return 0.5 + 0.3 * (-lean if bits / 16**8 < self.errs else lean)


class Offering:
    """Offers these wordings of every principle, and keeps what it was shown."""

    def __init__(self, *questions: str) -> None:
        self.questions = questions
        self.shown: list[Wrong] = []

    async def propose(
        self, principle: Principle, wrong: Sequence[Wrong], count: int
    ) -> tuple[list[Wording], list[str]]:
        self.shown += wrong
        return [Wording(replace(principle, comparison_question=text), "") for text in self.questions[:count]], []


def opened(writer: Proposer) -> Writers:
    return lambda: nullcontext(writer)


def only(given: Constitution, id: str) -> Constitution:
    return replace(given, principles=tuple(each for each in given.principles if each.id == id))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "proposals" / "pocket-improve"
    made.mkdir(parents=True)
    return made


WRONG = only(constitution(SHIPPED, "be-polite", "opposite"), "be-polite")
RIGHTLY = only(constitution(SHIPPED), "be-polite")
BETTER = RIGHT["rude"][1] + END


async def test_a_wrong_wording_is_mended_and_nine_right_ones_are_left_alone(folder: Path) -> None:
    given = constitution(SHIPPED, "be-polite", "opposite")
    gold = gold_of(given.principles, 120, 1)
    writer = Writer(ScriptedWriter(given.principles, 1), 1, known("en"))
    found = await improve(given, gold, Knowing(), opened(writer), folder, Settings())
    assert [trial.principle.id for trial in found.trials if trial.kept] == ["be-polite"]
    [mended] = [each for each in found.revised.principles if each.id == "be-polite"]
    assert mended.comparison_question.removesuffix(END) in RIGHT["rude"]
    assert [p for p in found.revised.principles if p.id != "be-polite"] == [
        p for p in given.principles if p.id != "be-polite"
    ]
    [trial] = [trial for trial in found.trials if trial.kept]
    assert trial.rise is not None
    assert trial.rise.low is not None
    assert trial.rise.low > 0.3
    assert trial.about == "principle"
    assert trial.flips is not None
    assert (trial.flips.value or 0) > 0.5
    faults = [each.wording.fault for trial in found.trials for each in trial.tried if each.wording.fault]
    assert faults
    assert all("presupposes an order" in fault for fault in faults)


async def test_the_panel_hears_both_orders_and_each_question_once(folder: Path) -> None:
    gold = gold_of(WRONG.principles, 60, 2)
    hearing = judging("planted", errs=0.0)
    one, same, other = await hearing.hear(
        [
            (WRONG.principles[0], gold.pairs),
            (replace(WRONG.principles[0], id="renamed"), gold.pairs[:5]),
            (RIGHTLY.principles[0], gold.pairs),
        ]
    )
    assert same == one[:5]
    assert all(p is not None for p in one)
    assert np.allclose(np.array(one, dtype=float), 1 - np.array(other, dtype=float))  # its bias for a place is gone


async def test_what_is_chosen_is_not_chosen_by_the_held_out_half(folder: Path) -> None:
    writer = Offering(BETTER)
    gold = gold_of(WRONG.principles, 120, 1)
    found = await improve(WRONG, gold, Knowing(), opened(writer), folder, Settings())
    [trial] = found.trials
    assert not any(is_held_out(each.gold) for each in writer.shown)
    assert not {conversation(p) for p in trial.selection} & {conversation(p) for p in trial.held_out}
    assert all(np.isin(0.0, trial.old[: len(trial.selection)]) for _ in writer.shown[:1])


async def test_a_wording_that_is_no_better_is_not_kept_and_spends_nothing(folder: Path) -> None:
    gold = gold_of(RIGHTLY.principles, 200, 3)
    found = await improve(RIGHTLY, gold, Knowing(), opened(Offering(OPPOSITE["rude"] + END)), folder, Settings())
    [trial] = found.trials
    assert (trial.decision, trial.kept, read_spent(folder.parent)) == ("none better", None, [])


async def test_held_out_pairs_are_spent_once(folder: Path) -> None:
    gold = gold_of(WRONG.principles, 120, 1)

    async def again(place: Path, *questions: str, settings: Settings | None = None, more: Gold = gold) -> Trial:
        given = await improve(WRONG, more, Knowing(), opened(Offering(*questions)), place, settings or Settings())
        return given.trials[0]

    assert (await again(folder, BETTER)).kept
    [test] = read_spent(folder.parent)
    repeated = await again(folder, BETTER)
    assert repeated.kept
    assert repeated.repeated == test.at
    assert len(read_spent(folder.parent)) == 1
    # Another wording by the same call, another call, and another name for the proposals: all find them spent.
    assert (await again(folder, RIGHT["rude"][0] + END)).decision == "spent"
    other = folder.parent / "other"
    other.mkdir()
    spent = await again(other, BETTER, settings=Settings(seed=2))
    assert spent.decision == "spent"
    assert spent.spent == len(test.pairs)
    assert "new gold" in spent.note
    # New gold: those that were spent are used to choose by, and the new ones are held out.
    more = gold_of(WRONG.principles, 120, 7)
    both = replace(gold, pairs=gold.pairs + more.pairs)
    fresh = await again(other, BETTER, more=both)
    assert fresh.kept
    assert not {pair.key for pair in fresh.held_out} & set(test.pairs)
    assert set(test.pairs) <= {pair.key for pair in fresh.selection}


async def test_a_test_that_was_killed_is_spent_and_resumes(folder: Path) -> None:
    gold = gold_of(WRONG.principles, 120, 1)

    class Dying(Knowing):
        async def hear(self, asked: Asked) -> Heard:
            if len(self.heard) == 2:  # the old wording, then one on the selection half
                raise KeyboardInterrupt
            return await super().hear(asked)

    with pytest.raises(KeyboardInterrupt):
        await improve(WRONG, gold, Dying(), opened(Offering(BETTER)), folder, Settings())
    with (folder / "spent.jsonl").open("a") as file:
        file.write('{"constitution": "tor')  # the kill came while another test was written
    assert len(read_spent(folder.parent)) == 1
    found = await improve(WRONG, gold, Knowing(), opened(Offering(BETTER)), folder, Settings())
    assert found.trials[0].kept
    assert found.trials[0].repeated
    (folder / "spent.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="line 1"):
        read_spent(folder.parent)


async def test_a_wording_does_not_gain_by_votes_that_it_lacks(folder: Path) -> None:
    gold = gold_of(WRONG.principles, 120, 1)
    hearing = Knowing(deaf=lambda question: question == BETTER)
    found = await improve(WRONG, gold, hearing, opened(Offering(BETTER)), folder, Settings())
    [tried] = found.trials[0].tried
    assert tried.missing > 10
    assert tried.agreement is not None
    assert (tried.agreement.value or 1.0) < 0.6
    found = await improve(WRONG, gold, Knowing(deaf=lambda _: True, errs=0.9), opened(Offering()), folder, Settings())
    assert found.trials[0].missing > 30
    assert found.trials[0].agreement is not None
    assert found.trials[0].agreement.n == 120 - found.trials[0].missing


async def test_too_few_pairs_are_said_with_how_many_it_would_take(folder: Path) -> None:
    gold = gold_of(WRONG.principles, 24, 1)
    writer = Offering(BETTER)
    found = await improve(WRONG, gold, Knowing(), opened(writer), folder, Settings())
    [trial] = found.trials
    assert (trial.decision, writer.shown) == ("too few", [])
    assert f"a rise of 10% on {2 * prompts_needed(0.1)}" in trial.note
    assert trial.agreement is not None
    assert trial.agreement.n == 24
    with pytest.raises(PrincipleError, match="no principle none"):
        await improve(WRONG, gold, Knowing(), opened(writer), folder, Settings(only=("none",)))
    nothing = await improve(WRONG, replace(gold, pairs=()), Knowing(), opened(writer), folder, Settings())
    assert nothing.trials[0].decision == "no gold"


async def test_principles_that_are_tried_one_by_one_are_one_family(folder: Path) -> None:
    given = constitution(SHIPPED, "be-polite", "opposite")
    gold = gold_of(given.principles, 100, 1)
    alone = await improve(given, gold, Knowing(), opened(Offering(BETTER)), folder, Settings(only=("be-polite",)))
    worse = constitution(SHIPPED, "stay-modest", "opposite")
    later = await improve(
        worse, gold, Knowing(), opened(Offering(RIGHT["boast"][1] + END)), folder, Settings(only=("stay-modest",))
    )
    assert alone.trials[0].p_holm == alone.trials[0].p
    assert later.trials[0].p_holm == pytest.approx(2 * (later.trials[0].p or 0))


def test_paired_statistics_are_those_of_the_references() -> None:
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests

    chance = np.random.default_rng(1)
    old, new = chance.integers(0, 2, 80).astype(float), chance.integers(0, 2, 80).astype(float)
    gains, losses, p = sign_test(old, new, range(80))
    assert p == pytest.approx(mcnemar([[0, gains], [losses, 0]], exact=True).pvalue)
    assert (gains, losses) == (int((new > old).sum()), int((new < old).sum()))
    values = [0.01, 0.04, 0.03, 0.2, 0.005]
    assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]))
    assert sign_test([1.0, 0.0], [0.0, 1.0], ["one", "one"]) == (0, 0, 1.0)  # of one prompt, they are even
    found = rise([0.0] * 50, [1.0] * 30 + [0.0] * 20, range(50))
    assert found.value == 0.6
    assert found.low is not None
    assert found.low > 0.4
    assert gains_needed() == 6
    assert sign_test([0.0] * 6, [1.0] * 6, range(6))[2] < 0.05
    for share in (0.1, 0.3, 1.0):
        n = prompts_needed(share)
        assert binom.sf(5, n, share) >= 0.8
        assert n == 6 or binom.sf(5, n - 1, share) < 0.8


def test_gold_of_a_file_of_preferences(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Question {n}?", "chosen": f"Good {n}.", "rejected": f"Bad {n}.", "principle_id": "be-polite"}
        for n in range(30)
    ]
    rows[1]["rejected"] = rows[1]["chosen"]
    rows.append({**rows[0], "chosen": rows[0]["rejected"], "rejected": rows[0]["chosen"]})
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    gold = read_gold(str(path), tmp_path / "warehouse")
    assert (len(gold.pairs), gold.unvotable, gold.contrary) == (28, 1, 1)
    assert {pair.principle_id for pair in gold.pairs} == {"be-polite"}
    assert all(pair.pair.a.text.startswith("Good") == (pair.p_b < 0.5) for pair in gold.pairs)
    assert gold.about(replace(RIGHTLY.principles[0], id="another")) == ()
    path.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    with pytest.raises(InputError, match="does not say which answer is better"):
        read_gold(str(path), tmp_path / "warehouse")
    with pytest.raises(InputError, match="there is no such file"):
        read_gold("missing.jsonl", tmp_path / "warehouse")


def test_the_world_is_what_it_says() -> None:
    ids = [each.id for each in constitution(SHIPPED).principles]
    assert len(ids) == len(set(ids)) == 10
    assert VAGUE in MEANS
    assert LEADING in MEANS
