"""The reward function for RL trainers: as a run rewards the same answers, real GRPO steps, and what has no reward."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from export_runs import make_export
from hypothesis import given, settings
from hypothesis import strategies as st
from run_once import run_once
from small_project import small_project, table
from test_trainers import STEPS, causal, datasets, quick, tokenizer, trained, trl

from constitution import Completion, Engine, Request, RubricReward
from constitution.errors import EngineUnavailable, InputError, RequestRefused
from constitution.records import Run

__all__ = ["datasets", "tokenizer", "trl"]

RECIPE = """
name = "given"
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
field = "messages"
answers = ["answer"]
rubric = "rubric"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
noise = 1.0
[sample.plain]
n = 3
[rubric]
from = ["given"]
[reward]
by = ["prompt-rubric"]
combine = "veto"
bar = 0.3
length = { limit = 30, ramp = 20 }
[output]
flush_seconds = 0.05
"""
JUDGE = {"engine": "fake", "noise": 1.0}
LENGTH = {"limit": 30, "ramp": 20}
REWARD: dict[str, Any] = {"combine": "veto", "bar": 0.3, "length": LENGTH}
RUBRIC = [
    {"question": "Does it say how?", "weight": 3.0, "kind": "essential"},
    {"question": "Is it rude?", "weight": 1.0, "kind": "pitfall", "good": "no"},
    {"question": "Does it invent a source?", "weight": -2.0},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """Prompts of one and three turns with rubrics, one without, and one with lost points alone."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"}]
    rows: list[dict[str, Any]] = [{"messages": [{"role": "user", "content": f"How is {n} made?"}]} for n in range(7)]
    rows = [{**row, "rubric": RUBRIC[: 1 + n % 3]} for n, row in enumerate([*rows, {"messages": turns}])]
    rows[5]["rubric"], rows[6]["rubric"] = None, RUBRIC[2:]
    rows = [{**row, "answer": "<think>Well.</think>So."} for row in rows]
    folder = tmp_path_factory.mktemp("given")
    return folder, asyncio.run(run_once(small_project(folder, rows, RECIPE), folder / "w", []))


def exported(made: tuple[Path, Run], out: Path, **more: Any) -> dict[str, dict[str, Any]]:
    """Rows by prompt."""
    _, rows = make_export(made[0] / "w", made[1], out, "grpo", **{"test": 0.0, "unanimous": "keep", **more})
    return {row["prompt_id"]: row for row in rows}


def test_it_is_the_run_s_own_reward_of_the_same_answers(made: tuple[Path, Run], tmp_path: Path) -> None:
    rows = exported(made, tmp_path / "out")
    assert len(rows) == 8
    assert sum(row["rubric"] is None for row in rows.values()) == 2
    total = "SELECT r.prompt_id, text, total_reward(value, length_penalty) FROM rewards "
    stored = table(made[0] / "w", total + "JOIN responses AS r ON r.id = response_id ORDER BY r.id")
    assert len(stored) == 8 * 4
    own = [rows[id] for id, *_ in stored]
    with RubricReward(JUDGE, **REWARD) as reward, pytest.warns(RuntimeWarning, match="8 of 32 answers have no reward"):
        said = reward(
            prompts=[row["prompt"] for row in own],
            completions=[[{"role": "assistant", "content": text}] for _, text, _ in stored],
            rubric=[row["rubric"] for row in own],
            prompt_id=[row["prompt_id"] for row in own],
        )
    assert said == [total for *_, total in stored]
    assert len(set(said)) > 8
    assert 0.0 in said  # vetoed


def test_the_card_s_lines_make_it_as_the_run_did(made: tuple[Path, Run], tmp_path: Path) -> None:
    exported(made, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in card.splitlines() if line.startswith("reward = ")]
    said: dict[str, Any] = {}

    def make(judge: dict[str, Any], **given: Any) -> RubricReward:
        said.update(judge | given)
        return RubricReward(judge, **given)

    assert isinstance(eval(line.removeprefix("reward = "), {"RubricReward": make}), RubricReward)
    assert said.pop("engine") == "openai"
    assert {name: said[name] for name in said if name in REWARD} == REWARD | {"length": {"penalty": 1.0, **LENGTH}}
    assert said.keys() == {"model", "base_url", *REWARD}


def test_grpo_trains_on_an_export_with_it(
    made: tuple[Path, Run], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path
) -> None:
    exported(made, tmp_path / "out", where="prompt_id NOT IN (SELECT prompt_id FROM failures)")
    data = datasets.load_dataset(str(tmp_path / "out"))["train"]
    steps = quick(tmp_path, per_device_train_batch_size=4, num_generations=4, max_completion_length=12)
    with RubricReward({"engine": "transformers", "model": "pocket-scorer"}) as reward:
        trainer = trl.GRPOTrainer(
            causal(), reward_funcs=reward, args=trl.GRPOConfig(**steps), processing_class=tokenizer, train_dataset=data
        )
        trained(trainer)
    logged = [step for step in trainer.state.log_history if "rewards/rubric_reward/mean" in step]
    assert len(logged) == STEPS
    assert all(0 <= step["rewards/rubric_reward/mean"] <= 1 for step in logged)
    assert any(step["rewards/rubric_reward/std"] > 0 for step in logged)
    assert all(step["rubric_reward/missing"] == 0 for step in logged)


def test_grpo_leaves_out_what_has_no_reward(
    made: tuple[Path, Run], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path
) -> None:
    """Together with another function, whose rewards count then alone."""
    exported(made, tmp_path / "out", where="prompt_id IN (SELECT prompt_id FROM failures)")
    data = datasets.load_dataset(str(tmp_path / "out"))["train"]
    steps = quick(tmp_path, per_device_train_batch_size=4, num_generations=4, max_completion_length=12)

    def lengths(completions: Any, **columns: Any) -> list[float]:
        return [float(len(completion[0]["content"]) % 5) for completion in completions]

    with RubricReward(JUDGE) as reward:
        trainer = trl.GRPOTrainer(
            causal(), reward_funcs=[reward, lengths], args=trl.GRPOConfig(**steps), processing_class=tokenizer,
            train_dataset=data,
        )  # fmt: skip
        with pytest.warns(RuntimeWarning, match="the prompt has no rubric"):
            trained(trainer)
    logged = [step for step in trainer.state.log_history if "rewards/lengths/mean" in step]
    assert all(step["rewards/rubric_reward/mean"] is None for step in logged)  # not a number
    assert [step["reward"] for step in logged] == pytest.approx([step["rewards/lengths/mean"] for step in logged])


class Judge(Engine):
    """Yes to everything, but of questions with a word it raises."""

    model = "judge"

    def __init__(self, fails: dict[str, Exception] | None = None) -> None:
        self.asked, self.fails, self.threads = 0, fails or {}, set[int]()

    async def generate(self, request: Request) -> Completion:
        self.asked += 1
        self.threads.add(threading.get_ident())
        for word, error in self.fails.items():
            if word in request.messages[0].content.rpartition("[end")[2]:
                raise error
        return Completion("", "length", 1, 1, choice_logprobs={"Y": math.log(0.75), "N": math.log(0.25)})


@pytest.mark.parametrize("error", [EngineUnavailable("away"), RequestRefused("no")])
def test_what_could_not_be_read_is_no_number(error: Exception) -> None:
    fails = Judge({"rude": error})
    rubrics = [RUBRIC[:1], RUBRIC, json.dumps(RUBRIC[:1]), [], None, RUBRIC[2:]]
    metrics: dict[str, float] = {}
    with pytest.warns(RuntimeWarning) as warned:
        said = RubricReward(fails)(
            prompts=["Why?"] * 6, completions=["So."] * 5 + ["Well."], rubric=rubrics, log_metric=metrics.__setitem__
        )
    assert said == [0.75, None, 0.75, None, None, None]
    assert metrics == {"rubric_reward/missing": 4 / 6}
    texts = sorted(str(each.message) for each in warned)
    assert len(texts) == 3
    assert texts[0].startswith("1 of 6 answers have no reward: criterion 2 of the prompt: ")
    assert texts[1:] == [
        "1 of 6 answers have no reward: no point can be had by its rubric",
        "2 of 6 answers have no reward: the prompt has no rubric",
    ]


def test_an_empty_answer_has_none_and_equal_ones_are_read_once() -> None:
    judge = Judge()
    with pytest.warns(RuntimeWarning, match="1 of 4 answers have no reward: it has no text"):
        said = RubricReward(judge)(["Why?"] * 4, ["So.", "So.", "", "<think>So.</think>So."], [RUBRIC[:2]] * 4)
    assert said == [pytest.approx((3 * 0.75 + 0.25) / 4)] * 2 + [None, pytest.approx((3 * 0.75 + 0.25) / 4)]
    assert judge.asked == 2


async def test_one_answer_on_a_loop_of_ones_own() -> None:
    judge = Judge()
    reward = RubricReward(judge)
    said = await asyncio.gather(*(reward.score("Why?", f"So {n}.", RUBRIC[:1]) for n in range(5)))
    assert said == [0.75] * 5
    assert threading.get_ident() not in judge.threads
    assert len(judge.threads) == 1


@given(
    st.lists(st.tuples(st.floats(-5, 5).filter(bool), st.booleans()), min_size=1, max_size=5),
    st.sampled_from(["mean", "veto"]),
)
@settings(max_examples=25, deadline=None)
def test_a_missing_reading_is_none_whatever_the_weights(items: list[tuple[float, bool]], combine: str) -> None:
    rubric = [{"question": f"{'Rude' if lost else 'Fine'} {n}?", "weight": w} for n, (w, lost) in enumerate(items)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        [said] = RubricReward(Judge({"Rude": RequestRefused("no")}), combine=combine)(["Why?"], ["So."], [rubric])
    whole = not any(lost for _, lost in items) and any(w > 0 for w, _ in items)
    assert (said is not None) is whole
    assert said is None or 0 <= said <= 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("Why?", "So.", [{"question": "Is it?", "weight": 0}]), "counts 0"),
        (("Why?", "So.", "no JSON"), "rubric is a text, and not the JSON of a list"),
        (("Why?", [{"role": "assistant", "content": None}], RUBRIC), "a turn is not"),
        (("Why?", [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}], RUBRIC), "2 turns"),
        (([{"role": "tool", "content": "a"}], "So.", RUBRIC), "a turn is not"),
    ],
)
def test_what_is_no_row_is_refused(row: tuple[Any, Any, Any], said: str) -> None:
    prompt, answer, rubric = row
    with pytest.raises(InputError, match=said):
        RubricReward(Judge())([prompt], [answer], [rubric])


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="combine"):
        RubricReward(Judge(), combine="sum")
    with pytest.raises(InputError, match="engine"):
        RubricReward({"engine": "none"})
