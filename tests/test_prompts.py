"""Prompt sources, from real files: what is read is whole, and what cannot be used is refused with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constitution.errors import PromptError
from constitution.prompts import parse_transcript, read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Message, Prompt

REAL = Path(__file__).parents[2] / "shared" / "data" / "hh-harmless-dev.jsonl.gz"


def write(folder: Path, rows: Sequence[Any], name: str = "prompts.jsonl") -> Path:
    path = folder / name
    data = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return path


def read(folder: Path, rows: Sequence[Any], **settings: Any) -> list[Prompt]:
    name = settings.pop("name", "prompts.jsonl")
    write(folder, rows, name)
    return list(read_prompts(PromptsSection(path=name, **settings), folder))


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Why?"},
]


# --- formats


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.jsonl.gz", "PROMPTS.JSONL.GZ"])
def test_jsonl(tmp_path: Path, name: str) -> None:
    prompts = read(tmp_path, [{"prompt": "a {{b}}: c\n\nd"}, "", {"messages": CHAT}], name=name, tags=("t",))
    assert [prompt.source for prompt in prompts] == [f"{name}#1", f"{name}#3"]
    assert prompts[0].messages == user("a {{b}}: c\n\nd")
    assert [message.role for message in prompts[1].messages] == ["system", "user", "assistant", "user"]
    assert prompts[1].tags == ("t",)


def test_parquet_with_messages(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [CHAT, CHAT[1:2]], "other": [1, 2]}), tmp_path / "p.parquet", row_group_size=1)
    prompts = list(read_prompts(PromptsSection(path="p.parquet"), tmp_path))
    assert [len(prompt.messages) for prompt in prompts] == [4, 1]
    assert prompts[1].source == "p.parquet#2"


def test_answers_and_gold(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "good": "x", "bad": [{"role": "assistant", "content": " y "}]},
        {"prompt": "r", "good": [{"role": "user", "content": "r"}, {"role": "assistant", "content": "z"}], "bad": "w"},
    ]
    prompts = read(tmp_path, rows, answers=("bad", "good"), gold="good")
    assert [(prompt.answers, prompt.gold) for prompt in prompts] == [((" y ", "x"), 1), (("w", "z"), 1)]


def test_answers_that_hold_the_prompt(tmp_path: Path) -> None:
    chosen, rejected = ([*CHAT, {"role": "assistant", "content": text}] for text in ("yes", "no"))
    [prompt] = read(tmp_path, [{"chosen": chosen, "rejected": rejected}], answers=("chosen", "rejected"))
    assert len(prompt.messages) == 4
    assert prompt.answers == ("yes", "no")


def test_sql_over_files_beside_the_recipe(tmp_path: Path) -> None:
    write(tmp_path, [{"q": "one", "n": 1}, {"q": "two", "n": 2}, {"q": "three", "n": 3}], "questions.jsonl")
    section = PromptsSection(
        format="sql", query="SELECT upper(q) AS prompt FROM 'questions.jsonl' WHERE n > 1 ORDER BY n"
    )
    prompts = list(read_prompts(section, tmp_path))
    assert [prompt.messages[0].content for prompt in prompts] == ["TWO", "THREE"]
    assert list(read_prompts(section, tmp_path)) == prompts


@pytest.mark.parametrize(
    "query",
    ["COPY (SELECT 1) TO 'out.csv'", "SELECT 1; SELECT 2", "SELEC 1", "CREATE TABLE t (a INT)", "SELECT 1 AS other"],
)
def test_sql_that_is_not_one_query(tmp_path: Path, query: str) -> None:
    with pytest.raises(PromptError, match=r"prompts\.query"):
        list(read_prompts(PromptsSection(format="sql", query=query), tmp_path))
    assert not list(tmp_path.iterdir())


def test_hub_data_set_in_a_local_folder(tmp_path: Path) -> None:
    (tmp_path / "set" / "test").mkdir(parents=True)
    write(tmp_path / "set", [{"prompt": "a"}], "train-0.jsonl")
    write(tmp_path / "set", [{"prompt": "b"}], "train-1.jsonl.gz")
    write(tmp_path / "set" / "test", [{"prompt": "c"}], "0.jsonl")
    for split, expected in (("train", ["a", "b"]), ("test", ["c"])):
        section = PromptsSection(format="hub", dataset="set", split=split)
        assert [prompt.messages[0].content for prompt in read_prompts(section, tmp_path)] == expected
    with pytest.raises(PromptError, match="split 'dev'"):
        list(read_prompts(PromptsSection(format="hub", dataset="set", split="dev"), tmp_path))


def test_hub_data_set_without_the_package(tmp_path: Path) -> None:
    try:
        import datasets  # type: ignore[import-untyped, import-not-found, unused-ignore] # noqa: F401
    except ImportError:
        with pytest.raises(PromptError) as caught:
            list(read_prompts(PromptsSection(format="hub", dataset="someone/set"), tmp_path))
        assert "constitution[hub]" in caught.value.hint


# --- transcripts

TWO_TURNS = "\n\nHuman: Human: is this a turn?\n\nNo: a paragraph.\n\nAssistant: Yes.\nHuman: no\n\nHuman: Why?"


def test_transcript_turns_are_whole(tmp_path: Path) -> None:
    [prompt] = read(
        tmp_path, [{"t": TWO_TURNS + "\n\nAssistant: Because.\n\nAssistant: So."}], field="t", format="transcripts"
    )
    assert prompt.messages == (
        Message("user", "Human: is this a turn?\n\nNo: a paragraph."),
        Message("assistant", "Yes.\nHuman: no"),
        Message("user", "Why?"),
    )


def test_transcript_answers_are_what_follows_the_shared_turns(tmp_path: Path) -> None:
    row = {"chosen": TWO_TURNS + "\n\nAssistant: a\n\nAssistant: b", "rejected": TWO_TURNS + "\n\nAssistant: "}
    [prompt] = read(tmp_path, [row], format="transcripts", answers=("chosen", "rejected"), gold="chosen")
    assert prompt.messages[-1] == Message("user", "Why?")
    assert prompt.answers == ("a\n\nb", "")
    assert prompt.gold == 0


def test_transcripts_that_part_too_early(tmp_path: Path) -> None:
    shared = "\n\nHuman: a\n\nAssistant: b"
    row = {"chosen": shared + "\n\nHuman: c\n\nAssistant: d", "rejected": shared + "\n\nHuman: e\n\nAssistant: f"}
    with pytest.raises(PromptError, match="line 1: the answers' conversations part before their last human turn"):
        read(tmp_path, [row], format="transcripts", answers=("chosen", "rejected"))


words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.sampled_from(["Human", "Assistant"]), words), min_size=1, max_size=6))
def test_any_turns_come_back(turns: list[tuple[str, str]]) -> None:
    turns = [(speaker, text) for speaker, text in turns if "\n\nHuman:" not in text and "\n\nAssistant:" not in text]
    if turns:
        text = "".join(f"\n\n{speaker}: {text}" for speaker, text in turns)
        assert [message.content for message in parse_transcript(text)] == [text for _, text in turns]


def real_turns(text: str) -> Iterator[tuple[str, str]]:
    """Counts turns line by line, another way than the module under test does it."""
    lines = text.split("\n")
    turn: list[str] = []
    speaker = ""
    for before, line in zip(["", *lines], lines, strict=False):
        start = next((name for name in ("Human", "Assistant") if line.startswith(name + ":")), "")
        if start and before == "":
            if speaker:
                yield speaker, "\n".join(turn).strip()
            speaker, turn = start, [line[len(start) + 1 :]]
        else:
            turn.append(line)
    yield speaker, "\n".join(turn).strip()


@pytest.mark.skipif(not REAL.exists(), reason="the HH-RLHF sample is not here")
def test_real_transcripts() -> None:
    with gzip.open(REAL, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    plain = list(read_prompts(PromptsSection(path=str(REAL), format="transcripts", field="chosen"), Path()))
    answers = ("chosen", "rejected")
    paired = list(
        read_prompts(PromptsSection(path=str(REAL), format="transcripts", answers=answers, gold="chosen"), Path())
    )
    assert len(plain) == len(paired) == len({prompt.id for prompt in paired}) == 1163
    assert sum(prompt.repeat for prompt in paired) == 2
    for row, alone, pair in zip(rows, plain, paired, strict=True):
        turns = list(real_turns(row["chosen"]))
        last = max(index for index, (speaker, _) in enumerate(turns) if speaker == "Human")
        assert alone.messages == pair.messages
        assert len(alone.messages) == last + 1
        assert [message.content for message in alone.messages] == [text for _, text in turns[: last + 1]]
        assert pair.answers[0] == "\n\n".join(text for _, text in turns[last + 1 :])
        assert pair.answers[1] == "\n\n".join(text for _, text in list(real_turns(row["rejected"]))[last + 1 :])


# --- what is refused


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"prompt": "a', "line 2: not valid JSON"),
        ("[1]", "line 2: expected an object"),
        ({"text": "a"}, "line 2: there is no 'prompt' (it has: text)"),
        ({"prompt": None}, "line 2: prompt is null"),
        ({"prompt": 3}, "line 2: prompt is neither"),
        ({"prompt": "  "}, "line 2: turn 1 has no text"),
        ({"prompt": "a\x00b"}, "line 2: turn 1 holds a NUL"),
        ('{"prompt": "a\\ud800"}', "line 2: turn 1, character 1: half of a surrogate pair"),
        ({"prompt": "\n\nHuman: a\n\nAssistant: b"}, "line 2: prompt is a transcript"),
        ({"prompt": []}, "line 2: prompt is neither"),
        ({"prompt": [{"role": "user"}]}, "line 2: prompt, turn 1: expected"),
        ({"prompt": [{"role": "robot", "content": "a"}]}, "line 2: prompt, turn 1: role is 'robot'"),
        ({"prompt": [{"role": "user", "content": ["a"]}]}, "line 2: prompt, turn 1: expected"),
        ({"prompt": [*CHAT[:2], CHAT[0]]}, "line 2: the last turn is not the user's"),
    ],
)
def test_refused_rows_name_their_place(tmp_path: Path, row: Any, said: str) -> None:
    with pytest.raises(PromptError) as caught:
        read(tmp_path, [{"prompt": "fine"}, row])
    assert said in str(caught.value)
    assert "prompts.jsonl" in str(caught.value)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "\xff"}\n')
    with pytest.raises(PromptError, match="line 2: byte 12 is not UTF-8"):
        list(read_prompts(PromptsSection(path="p.jsonl"), tmp_path))


def test_a_gzip_file_that_was_cut(tmp_path: Path) -> None:
    whole = write(tmp_path, [{"prompt": f"number {n}"} for n in range(3000)], "p.jsonl.gz").read_bytes()
    (tmp_path / "p.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PromptError, match=r"after line \d+: cannot be read"):
        list(read_prompts(PromptsSection(path="p.jsonl.gz"), tmp_path))


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(PromptError, match="cannot be read as Parquet"):
        list(read_prompts(PromptsSection(path="p.parquet"), tmp_path))


@pytest.mark.parametrize("name", ["none.jsonl", "empty.jsonl", "what.txt"])
def test_sources_without_prompts(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "what.txt").touch()
    with pytest.raises(PromptError, match=name):
        list(read_prompts(PromptsSection(path=name), tmp_path))


# --- identity


def test_repeats_are_told_apart_and_limit_counts(tmp_path: Path) -> None:
    prompts = read(tmp_path, [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}, {"prompt": "a"}])
    assert [prompt.repeat for prompt in prompts] == [0, 0, 1, 2]
    assert len({prompt.id for prompt in prompts}) == 4
    assert len(read(tmp_path, [{"prompt": "a"}, {"prompt": "b"}], limit=1)) == 1


def test_reading_is_a_stream(tmp_path: Path) -> None:
    """The first prompts come although a later row is broken."""
    write(tmp_path, [{"prompt": "a"}, {"prompt": "b"}, "{broken"])
    prompts = read_prompts(PromptsSection(path="prompts.jsonl"), tmp_path)
    assert [next(prompts).messages[0].content, next(prompts).messages[0].content] == ["a", "b"]
    with pytest.raises(PromptError, match="line 3"):
        next(prompts)


def test_a_rows_own_tags_follow_the_recipes(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "kinds": ["x", "y"]}\n{"prompt": "b", "kinds": []}\n')
    section = PromptsSection(path=path.name, tags=("all",), tags_field="kinds")
    assert [prompt.tags for prompt in read_prompts(section, tmp_path)] == [("all", "x", "y"), ("all",)]


@pytest.mark.parametrize("kinds", ['"[\\"x\\"]"', "[1]", "null", '{"a": 1}'])
def test_tags_that_are_neither_a_text_nor_a_list_of_texts_are_refused(tmp_path: Path, kinds: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "a", "kinds": {kinds}}}\n')
    with pytest.raises(PromptError, match=r"prompts\.jsonl.*kinds"):
        list(read_prompts(PromptsSection(path=path.name, tags_field="kinds"), tmp_path))
