"""What odd replies of servers become: a row that says what happened and an event, or a Failure; never a wrong row."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from odd_replies import OddServer, choice, choices, content, model, reply, top, usage
from run_once import run_once
from small_project import small_project, table

from constitution.engines import Metered
from constitution.engines.base import Completion, Request
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import MalformedReply
from constitution.pipeline.report import report
from constitution.recipe import OpenAIModel
from constitution.records import Message, Run, Sampling

ASK = Request((Message("user", "How do I light a fire?"),), Sampling(max_tokens=8), seed=1)
VOTE = Request((Message("user", "(A) yes (B) no"), Message("assistant", "(")), Sampling(), seed=1, choices=("A", "B"))

Change = Callable[[dict[str, Any]], None]


async def ask(server: OddServer, *requests: Request) -> tuple[list[Completion], dict[str, Any]]:
    """What comes of the requests, and the engine's stats after them."""
    async with server:
        section = OpenAIModel(engine="openai", model="m", base_url=server.base_url, retries=0)
        engine = Metered(await OpenAIEngine.open(section))
        try:
            return [await engine.generate(request) for request in requests], dict(engine.stats())
        finally:
            await engine.close()


async def refused(server: OddServer, request: Request) -> str:
    with pytest.raises(MalformedReply) as caught:
        await ask(server, request)
    return str(caught.value)


async def test_a_sound_reply_is_no_event() -> None:
    [said, vote], stats = await ask(OddServer(), ASK, VOTE)
    assert said.text.startswith("right")
    assert (said.prompt_tokens, said.completion_tokens, said.cached_tokens) == (100, 1, 0)
    assert vote.choice_logprobs == pytest.approx({"A": math.log(0.7), "B": math.log(0.2)})
    assert vote.unseen is None
    assert not stats.get("events")
    assert stats["served_models"] == {"m": 2}


# --- text


@pytest.mark.parametrize("raw", [b"caf\xe9", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"])
async def test_a_reply_that_is_not_utf8_is_no_answer(raw: bytes) -> None:
    server = OddServer(raw=lambda sound: sound.replace(b"right", raw))
    assert "is not UTF-8 (byte " in await refused(server, ASK)


@pytest.mark.parametrize(("text", "what"), [("a\0b", "a NUL"), ("\ud83d b", "half of a surrogate pair")])
@pytest.mark.parametrize("finish", ["stop", "length"])
async def test_text_that_no_table_can_hold_is_no_answer(text: str, what: str, finish: str) -> None:
    assert what in await refused(OddServer(content(text, finish)), ASK)


@pytest.mark.parametrize("end", [chr(0xD83D), "\ufffd", "\ufffd" * 3])
async def test_of_a_cut_answer_the_last_character_that_is_not_whole_is_dropped_and_counted(end: str) -> None:
    [said], stats = await ask(OddServer(content("well" + end, "length")), ASK)
    assert said.text == "well"
    assert stats["events"] == ["1 answers were cut within a character: what there was of it is dropped"]


async def test_replaced_bytes_are_stored_as_they_came_and_counted() -> None:
    [said, _], stats = await ask(OddServer(content("a \ufffd b \ufffd")), ASK, ASK)
    assert said.text == "a \ufffd b \ufffd"
    assert stats["events"] == [
        "2 answers hold U+FFFD, which is put for bytes that are no text: they are stored as they came"
    ]


# --- choices, and why they ended


@pytest.mark.parametrize("numbers", [(1, 0), (0, 1), (2, 0, 1), (None, 0)])
async def test_of_several_choices_the_one_of_index_0_is_taken_and_counted(numbers: tuple[Any, ...]) -> None:
    [said, vote], stats = await ask(OddServer(choices(*numbers)), ASK, VOTE)
    assert said.text.startswith("right")
    assert vote.choice_logprobs
    assert stats["events"] == ["2 replies have several choices, though one was asked for: the one of index 0 is taken"]


async def test_a_single_choice_needs_not_say_its_index() -> None:
    [said], stats = await ask(OddServer(choices(None)), ASK)
    assert said.text.startswith("right")
    assert not stats.get("events")


@pytest.mark.parametrize("numbers", [(), (1,), (0, 0), (None, None), (1, 2), (False,), ("0",), (0.0,), (-1,)])
async def test_choices_of_which_none_is_the_first_are_no_answer(numbers: tuple[Any, ...]) -> None:
    assert "choices" in await refused(OddServer(choices(*numbers)), ASK)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *(("stop", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("stop_sequence", "stop"), ("STOP", "stop")),
        *(("length", "length"), ("max_tokens", "length"), ("MAX_TOKENS", "length")),
        *(("content_filter", "content_filter"), ("SAFETY", "content_filter"), ("refusal", "refusal")),
        *(("tool_calls", "tool_calls"), ("function_call", "tool_calls"), ("tool_use", "tool_calls")),
    ],
)
async def test_every_servers_word_for_an_end_is_one_of_ours(theirs: str, ours: str) -> None:
    [said], _ = await ask(OddServer(choice(finish_reason=theirs)), ASK)
    assert said.finish_reason == ours


@pytest.mark.parametrize("reason", [None, "", "abort", "error", "who knows", 1, True, ["stop"], {"reason": "stop"}])
async def test_an_end_that_is_not_known_is_no_answer(reason: Any) -> None:
    assert "finish_reason is " in await refused(OddServer(choice(finish_reason=reason)), ASK)


async def test_what_has_no_content_is_what_it_says() -> None:
    for change, expected in (
        (content(None, "length"), ("", "length")),
        (content(None, "stop"), ("", "stop")),
        (content(None, "tool_calls", tool_calls=[{"id": "1"}]), ("", "tool_calls")),
        (content(None, "stop", refusal="I'm sorry, I can't."), ("I'm sorry, I can't.", "refusal")),
        (content("", "stop", refusal="No."), ("No.", "refusal")),
        (content("Well.", "stop", refusal=None), ("Well.", "stop")),
    ):
        [said], _ = await ask(OddServer(change), ASK)
        assert (said.text, said.finish_reason) == expected
    for broken in ([{"type": "image_url"}], 3, True, {"text": "a"}):
        assert "message.content is no text" in await refused(OddServer(content(broken)), ASK)
    assert "message.refusal is no text" in await refused(OddServer(content(None, refusal=True)), ASK)


# --- the model's name


async def test_another_models_name_fails_nothing_and_is_counted_and_told() -> None:
    [said], stats = await ask(OddServer(model("other")), ASK)
    assert said.text
    assert stats["served_models"] == {"other": 1}
    assert stats["events"] == ["1 replies are by another model's name than 'm': 'other'"]


@pytest.mark.parametrize("name", ["m", "m-2026-11-01", "org/M", "models/m", "m.gguf", "m:latest"])
async def test_an_alias_is_counted_and_no_event(name: str) -> None:
    _, stats = await ask(OddServer(model(name)), ASK)
    assert stats["served_models"] == {name: 1}
    assert not stats.get("events")


@pytest.mark.parametrize("name", [None, "", 3, ["m"]])
async def test_no_name_is_counted(name: Any) -> None:
    _, stats = await ask(OddServer(model(name)), ASK)
    assert stats["served_models"] == {"(none)": 1}


async def test_a_name_that_is_no_text_ends_no_run(tmp_path: Path) -> None:
    run = await whole_run(tmp_path, OddServer(model("m\ud83d")), "policy")
    assert run.finished_at
    assert run.engines["policy"]["served_models"] == {"m\\ud83d": 9}


async def test_a_model_that_changes_in_mid_run_is_an_event_and_many_names_are_bounded() -> None:
    names = iter(["m-2026-05", "m-2026-08", *(f"m-{number}" for number in range(200))])
    server = OddServer(lambda sound: sound.update(model=next(names)))
    _, stats = await ask(server, *[ASK] * 202)
    [event] = stats["events"]
    told = "the replies' model changed in mid-run: 'm-2026-05', 'm-2026-08', 'm-0', 'm-1', 'm-2' and 46 more"
    assert event == told
    assert sum(stats["served_models"].values()) == 202
    assert len(stats["served_models"]) <= 52


# --- usage


@pytest.mark.parametrize(
    ("change", "counts", "event"),
    [
        (usage(prompt_tokens_details={"cached_tokens": 300}), (100, 1, 0, 0), "more tokens were cached"),
        (usage(prompt_tokens_details={"cached_tokens": -3}), (100, 1, 0, 0), "that cannot be one"),
        (usage(prompt_tokens_details={"cached_tokens": True}), (100, 1, 0, 0), "that cannot be one"),
        (usage(completion_tokens_details={"reasoning_tokens": 9}), (100, 1, 0, 0), "the reasoning took more"),
        (usage(completion_tokens=11, total_tokens=111), (100, 11, 0, 0), "than were asked for"),
        (usage(total_tokens=5), (100, 1, 0, 0), "not the sum"),
        (usage(prompt_tokens=-100), (6, 1, 0, 0), "that cannot be one"),
        (usage(prompt_tokens="100"), (6, 1, 0, 0), "that cannot be one"),
        (usage(prompt_tokens=10.5), (6, 1, 0, 0), "that cannot be one"),
        (usage(prompt_tokens=2**40), (6, 1, 0, 0), "that cannot be one"),
        (usage(prompt_tokens=0), (6, 1, 0, 0), "do not say how many tokens"),
        (usage(completion_tokens=None), (100, 3, 0, 0), "do not say how many tokens"),
        (usage(completion_tokens=0), (100, 3, 0, 0), "do not say how many tokens"),
        (usage(completion_tokens=False), (100, 3, 0, 0), "that cannot be one"),
        (lambda sound: sound.pop("usage"), (6, 3, 0, 0), "do not say how many tokens"),
        (lambda sound: sound.update(usage=None), (6, 3, 0, 0), "do not say how many tokens"),
        (lambda sound: sound.update(usage=[1, 2]), (6, 3, 0, 0), "do not say how many tokens"),
    ],
)
async def test_counts_that_cannot_be_are_not_believed(change: Change, counts: tuple[int, ...], event: str) -> None:
    [said], stats = await ask(OddServer(change), ASK)
    found = (said.prompt_tokens, said.completion_tokens, said.cached_tokens, said.reasoning_tokens)
    assert found == counts
    assert any(event in sentence for sentence in stats["events"])


async def test_counts_that_can_be_are_taken() -> None:
    parts = usage(
        prompt_tokens=100.0,
        prompt_tokens_details={"cached_tokens": 100},
        completion_tokens=9,
        completion_tokens_details={"reasoning_tokens": 8},
        total_tokens=109,
    )
    [said], stats = await ask(OddServer(parts), ASK)
    assert (said.prompt_tokens, said.cached_tokens, said.completion_tokens, said.reasoning_tokens) == (100, 100, 9, 8)
    assert not stats.get("events")


# --- log-probabilities


@pytest.mark.parametrize(
    "entries",
    [
        [("A", 0.0), ("B", 0.0)],
        [("A", -0.3), ("B", -1.2), ("x", -1.2)],
        [("A", -0.3), ("A", -1.4), ("B", -2.0)],
        [("A", False), ("B", True)],
        [("A", "-0.3"), ("B", "-1.4")],
        [("A", None), ("B", -1.4)],
        [("A", math.nan), ("B", -1.4)],
        [("A", math.inf), ("B", -1.4)],
        [("A", 0.2), ("B", -1.4)],
        [("A", -0.3), {"token": "B"}],
        [("A", -0.3), {"logprob": -1.4}],
        [("A", -0.3), (1, -1.4)],
        [("A", -0.3), None],
        [("A", -0.3), "B"],
        [("A", -1.0)],
        [],
        None,
    ],
)
async def test_log_probabilities_that_cannot_be_are_no_vote(entries: list[Any] | None) -> None:
    change = choice(logprobs=None) if entries is None else top(*entries)
    assert await refused(OddServer(change), VOTE)


async def test_a_label_outside_the_list_is_bounded_by_it() -> None:
    # By the least likely token that is told, and by what the told ones leave.
    for entries, each, together in (
        ([("A", math.log(0.9)), ("x", math.log(0.04)), ("y", math.log(0.01))], 0.01, 0.05),
        ([("A", math.log(0.9)), ("x", math.log(0.06)), ("y", math.log(0.03))], 0.01, 0.01),
        ([("A", math.log(0.9))], 0.1, 0.1),
        ([("A", math.log(0.9)), ("B", -9999.0), ("x", math.log(0.05))], 0.05, 0.05),
        ([("A", math.log(0.9)), ("A", math.log(0.9)), ("x", math.log(0.05))], 0.05, 0.05),
        ([("A", 0.0)], 1e-6, 1e-6),
    ):
        [vote], _ = await ask(OddServer(top(*entries)), VOTE)
        assert vote.choice_logprobs is not None
        assert list(vote.choice_logprobs) == ["A"]
        assert vote.unseen is not None
        assert tuple(vote.unseen) == pytest.approx((each, together))


async def test_a_token_that_only_looks_like_a_label_is_none() -> None:
    blank = {"token": "A", "logprob": -3.0, "bytes": [32, 65]}
    label = {"token": "A", "logprob": -0.3, "bytes": [65]}
    [vote], _ = await ask(OddServer(top(blank, label, ("B", -2.0))), VOTE)
    assert vote.choice_logprobs == {"A": -0.3, "B": -2.0}


# --- whole runs

POLICY = """
name = "odd"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
[model.policy]
engine = "{policy}"
{at_policy}
[model.judge]
engine = "{judge}"
{at_judge}
price = {{ input = 1000.0, cached = 1.0, output = 1000.0 }}
[revise]
rounds = 1
[judge]
principles = 1
pairs = ["given"]
[budget]
limit = {limit}
"""


async def whole_run(folder: Path, server: OddServer, role: str, limit: float = 1e9, prompts: int = 3) -> Run:
    """A run whose policy or judge is at the server; the other one is fake."""
    there = 'model = "m"\nretries = 0\nprice = { input = 1000.0, cached = 1.0, output = 1000.0 }\n'
    async with server:
        at = f'base_url = "{server.base_url}"\n{there}'
        sections = {
            "policy": "openai" if role == "policy" else "fake",
            "at_policy": at if role == "policy" else "",
            "judge": "openai" if role == "judge" else "fake",
            "at_judge": at.rpartition("price")[0] if role == "judge" else 'model = "fake-judge"',
        }
        recipe = small_project(folder, prompts, POLICY.format(limit=limit, **sections))
        return await run_once(recipe, folder / "w", [])


@pytest.mark.parametrize("role", ["policy", "judge"])
async def test_a_whole_run_of_replies_that_are_not_utf8_stores_none(tmp_path: Path, role: str) -> None:
    broken = OddServer(raw=lambda sound: sound.replace(b"right", b"caf\xe9").replace(b'"w0"', b'"\xe9"'))
    run = await whole_run(tmp_path, broken, role)
    stored = "responses WHERE model = 'm'" if role == "policy" else "judgements"
    assert table(tmp_path / "w", f"SELECT count(*) FROM {stored}") == [(0,)]
    errors = table(tmp_path / "w", "SELECT DISTINCT error, retryable, message FROM failures")
    assert {(error, retryable) for error, retryable, _ in errors} == {("MalformedReply", True)}
    assert all("is not UTF-8" in message for *_, message in errors)
    assert run.counts["open"] == 3


@pytest.mark.parametrize("change", [top(("A", 0.0), ("B", 0.0)), choice(logprobs=None)], ids=["impossible", "none"])
async def test_a_judge_whose_log_probabilities_cannot_be_gives_no_vote_and_no_label(
    tmp_path: Path, change: Change
) -> None:
    run = await whole_run(tmp_path, OddServer(change), "judge")
    assert (run.counts["judgements"], run.counts["preferences"], run.counts["open"]) == (0, 0, 3)
    assert table(tmp_path / "w", "SELECT DISTINCT step, error FROM failures") == [("vote", "MalformedReply")]
    # As a policy the same server answers, whatever its log-probabilities.
    (tmp_path / "policy").mkdir()
    assert (await whole_run(tmp_path / "policy", OddServer(change), "policy")).finished_at


async def test_bounded_votes_are_marked_counted_and_shown(tmp_path: Path) -> None:
    entries = [("A", math.log(0.9)), ("x", math.log(0.06)), ("y", math.log(0.01))]
    run = await whole_run(tmp_path, OddServer(top(*entries)), "judge")
    assert run.counts["censored"] == run.counts["judgements"] == 6
    found = table(tmp_path / "w", "SELECT DISTINCT p_first, label_mass, censored FROM judgements")
    assert found == [(pytest.approx(0.9 / 0.905), pytest.approx(0.905), True)]
    assert "| of these with a label not read but bounded | 6 |" in report(run)


@pytest.mark.parametrize("role", ["policy", "judge"])
@pytest.mark.parametrize(
    "change",
    [
        usage(prompt_tokens_details={"cached_tokens": 10**6}),
        usage(prompt_tokens=-1000, completion_tokens=-1000),
        lambda sound: sound.pop("usage"),
    ],
    ids=["cached", "negative", "none"],
)
async def test_a_budget_ends_whatever_the_server_says_it_took(tmp_path: Path, change: Change, role: str) -> None:
    run = await whole_run(tmp_path, OddServer(change), role, limit=0.1, prompts=40)
    assert run.stopped.startswith("budget: ")
    assert run.cost is not None
    assert run.cost >= 0.05
    assert run.counts["done"] < 40
    assert run.engines[role]["events"]


async def test_another_models_name_is_in_the_record_and_the_report(tmp_path: Path) -> None:
    run = await whole_run(tmp_path, OddServer(model("other-1")), "policy")
    assert run.finished_at
    assert list(run.engines["policy"]["served_models"]) == ["other-1"]
    assert "- policy: replies by model: other-1 (" in report(run)
    assert "replies are by another model's name than 'm': 'other-1'" in report(run)


def test_the_helpers_replies_are_sound() -> None:
    told = reply("x", True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert math.fsum(math.exp(each["logprob"]) for each in told) < 1
