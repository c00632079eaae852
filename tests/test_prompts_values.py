"""What is beside a prompt's text and how it is written: nothing is lost, guessed or changed without a word."""

from __future__ import annotations

import bz2
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from read_prompts import asked, of, parquet, texts

from constitution.errors import PromptError
from constitution.prompts import parse_transcript, read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Message

ODD = {"decimal": "1.5::DECIMAL(4,2)", "uuid": "uuid()", "date": "DATE '2020-01-01'", "blob": "'a'::BLOB",
       "hugeint": "1::HUGEINT", "bit": "'101'::BIT", "time": "TIME '10:00'", "interval": "INTERVAL 1 DAY"}  # fmt: skip
HI = [{"role": "user", "content": "hi"}]


# --- values of queries and Parquet


def test_json_of_a_query_is_its_value(tmp_path: Path) -> None:
    rows = [
        HI,
        [{"role": "user", "content": [{"type": "text", "text": 'Say "hi"\nto '}, {"type": "text", "text": "B"}]}],
    ]
    rows.append([{"role": "user", "content": 'Say "hi"\nto Bob'}])
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    prompts = asked(tmp_path, "SELECT messages FROM 'm.jsonl'")
    assert texts(prompts) == ["hi", 'Say "hi"\nto B', 'Say "hi"\nto Bob']


@pytest.mark.parametrize(
    "prompt",
    [
        """'"say \\"hi\\""'::JSON""",
        """'[{"role": "user", "content": "say \\"hi\\""}]'::JSON""",
        """[{'role': 'user', 'content': '"say \\"hi\\""'::JSON}]""",
        """['{"role": "user", "content": "say \\"hi\\""}'::JSON]""",
        """[MAP {'role': '"user"'::JSON, 'content': '"say \\"hi\\""'::JSON}]""",
    ],
)
def test_json_nested_in_a_query_and_in_parquet(tmp_path: Path, prompt: str) -> None:
    query = f"""SELECT {prompt} AS prompt, '"  \\"a\\""'::JSON AS a, ['"t"'::JSON] AS tags"""
    [found] = asked(tmp_path, query, answers=("a",), tags_field="tags")
    assert (found.messages, found.answers, found.tags) == ((Message("user", 'say "hi"'),), ('  "a"',), ("t",))
    import duckdb

    duckdb.connect().execute(f"COPY ({query}) TO '{tmp_path}/p.parquet'")
    section = PromptsSection(path="p.parquet", answers=("a",), tags_field="tags")
    [stored] = read_prompts(section, tmp_path)
    assert (stored.messages, stored.answers, stored.tags) == (found.messages, found.answers, found.tags)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("where", ["{}", "[{{'role': 'user', 'content': {}}}]", "[{}]"])
def test_values_that_are_no_text_are_refused(tmp_path: Path, kind: str, where: str) -> None:
    value = where.format(ODD[kind])
    for used in ({"query": f"SELECT {value} AS prompt"}, {"query": f"SELECT 'a' AS prompt, {value} AS k"}):
        settings = {"tags_field": "k"} if "AS k" in used["query"] else {}
        with pytest.raises(
            PromptError, match=r"prompts\.query, row 1: (prompt|k).* is of the type .*no text"
        ) as caught:
            asked(tmp_path, used["query"], **settings)
        assert "CAST" in caught.value.hint
    import duckdb

    if kind not in ("bit", "hugeint"):  # Parquet has neither
        duckdb.connect().execute(f"COPY (SELECT {value} AS prompt) TO '{tmp_path}/p.parquet'")
        with pytest.raises(PromptError, match=r"p\.parquet.*: prompt.* is of the type .*no text"):
            list(read_prompts(PromptsSection(path="p.parquet"), tmp_path))


def test_columns_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    far = "DATE '9999-01-01' + INTERVAL 10 YEAR"
    assert texts(asked(tmp_path, f"SELECT 'a' AS prompt, {far} AS made_at, 'x'::BLOB AS thumbnail")) == ["a"]
    days = pa.array([4_000_000], pa.date32())  # in the year 12921
    assert texts(parquet(tmp_path, pa.table({"prompt": ["a"], "made_at": days, "n": [1.5]}))) == ["a"]
    # Broken bytes in a column that is not read are not met.
    table = pa.table({"blob": pa.array([os.urandom(100_000)]), "prompt": ["a"]})
    pq.write_table(table, tmp_path / "b.parquet", compression="snappy", use_dictionary=False)
    data = bytearray((tmp_path / "b.parquet").read_bytes())
    data[10:2000] = bytes(1990)
    (tmp_path / "b.parquet").write_bytes(data)
    assert texts(list(read_prompts(PromptsSection(path="b.parquet"), tmp_path))) == ["a"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    with pytest.raises(PromptError, match="2 columns 'prompt'"):
        parquet(tmp_path, table)
    (tmp_path / "c.jsonl").write_text('{"prompt": "a", "Prompt": "b"}\n')
    for query in ("SELECT 'a' AS prompt, 'b' AS prompt", "SELECT 'a' AS prompt, 'b' AS Prompt",
                  "SELECT * FROM 'p.parquet'", "SELECT * FROM 'c.jsonl'"):  # fmt: skip
        with pytest.raises(PromptError, match="has the columns prompt and"):
            asked(tmp_path, query)
    assert texts(asked(tmp_path, "SELECT 'a' AS prompt, 'b' AS prompt_1", ignore=("prompt_1",))) == ["a"]
    with pytest.raises(PromptError, match="also has Prompt"):
        list(read_prompts(PromptsSection(path="c.jsonl"), tmp_path))


def test_a_query_keeps_its_order(tmp_path: Path) -> None:
    prompts = asked(tmp_path, "SELECT i AS n, 'p' || i AS prompt FROM range(3000) t(i) ORDER BY hash(i) -- so\n;")
    expected = asked(tmp_path, "SELECT 'p' || i AS prompt FROM range(3000) t(i) ORDER BY hash(i)")
    assert texts(prompts) == texts(expected)


# --- what is beside the text

SEEN = {
    "system": "Answer in French.", "system_prompt": "x", "tools": [{"type": "function"}], "functions": [{"name": "f"}],
    "images": ["a.png"], "audio": {"bytes": "x"}, "documents": ["d"], "context": "c", "input": "i",
    "history": [["a", "b"]],
    "choices": ["a", "b"], "Context": "c", "system-prompt": "x", "conversations": [{"from": "human", "value": "z"}],
    "messages": [{"role": "user", "content": "another"}], "tool_calls": [{"id": "1"}], "function_call": {"name": "f"},
}  # fmt: skip


@pytest.mark.parametrize("key", SEEN)
def test_what_a_model_would_have_seen_is_used_ignored_or_refused(tmp_path: Path, key: str) -> None:
    row = {"prompt": "hi", key: SEEN[key], "id": 7, "source": "s", "score": 0.5, "chosen": "c", "category": "x"}
    with pytest.raises(PromptError, match=rf"p\.jsonl, line 1: also has {key}, which a model") as caught:
        of(tmp_path, row)
    assert f'prompts.ignore = ["{key}"]' in caught.value.hint
    assert texts(of(tmp_path, row, ignore=(key,))) == ["hi"]
    nothing: Any
    for nothing in (None, "", " ", [], {}, [None]):
        assert texts(of(tmp_path, row | {key: nothing})) == ["hi"]
    with pytest.raises(PromptError, match="also has"):
        parquet(tmp_path, pa.Table.from_pylist([row]))
    assert texts(parquet(tmp_path, pa.Table.from_pylist([row]), ignore=(key,))) == ["hi"]
    assert texts(parquet(tmp_path, pa.Table.from_pylist([{"prompt": "hi", "n": 1, key: None}]))) == ["hi"]
    with pytest.raises(PromptError, match="also has"):
        asked(tmp_path, "SELECT * FROM 'p.parquet' UNION ALL BY NAME SELECT 'a' AS prompt, 'x' AS context")


def test_what_is_left_out_of_turns_is_no_part_of_tools(tmp_path: Path) -> None:
    row = {"prompt": "hi", "tools": [{"id": "t"}], "id": "7"}
    for read in (of, lambda folder, row, **more: parquet(folder, pa.Table.from_pylist([row]), **more)):
        with pytest.raises(PromptError, match="also has tools"):
            read(tmp_path, row, ignore=("id",))


def test_pictures_are_refused_without_reading_them(tmp_path: Path) -> None:
    pictures = pa.array([[{"bytes": b"x" * 1000, "path": None}], []])
    with pytest.raises(PromptError, match="also has images") as caught:
        parquet(tmp_path, pa.table({"prompt": ["a", "b"], "images": pictures}))
    assert "format sql" in caught.value.hint
    assert texts(parquet(tmp_path, pa.table({"prompt": ["a", "b"], "images": pictures}), ignore=("images",))) == [
        "a",
        "b",
    ]
    empty = pa.array([[], None], pictures.type)
    assert texts(parquet(tmp_path, pa.table({"prompt": ["a", "b"], "images": empty}))) == ["a", "b"]
    with pytest.raises(PromptError, match="also has image"):
        asked(tmp_path, "SELECT 'a' AS prompt, 'x'::BLOB AS image")
    assert texts(asked(tmp_path, "SELECT 'a' AS prompt, NULL::BLOB AS image")) == ["a"]


def test_the_system_key_comes_first(tmp_path: Path) -> None:
    rows = [{"sys": "Be brief.", "prompt": "a"}, {"sys": None, "prompt": "b"}, {"sys": "", "prompt": "c"}]
    prompts = of(tmp_path, *rows, system="sys")
    assert [[turn.role for turn in prompt.messages] for prompt in prompts] == [["system", "user"], ["user"], ["user"]]
    assert prompts[0].messages[0].content == "Be brief."
    chat = [{"role": "system", "content": "S"}, *HI]
    whole = [*chat, {"role": "assistant", "content": "yes"}]
    [both] = of(tmp_path, {"system": "S", "prompt": chat, "a": whole}, system="system", answers=("a",))
    [apart] = of(tmp_path, {"system": "S", "prompt": HI, "a": whole}, system="system", answers=("a",))
    assert both == apart
    assert both.answers == ("yes",)
    transcript = "\n\nHuman: hi\n\nAssistant: yes"
    [spoken] = of(tmp_path, {"system": "S", "prompt": transcript}, system="system", format="transcripts")
    assert [turn.role for turn in spoken.messages] == ["system", "user"]
    assert [len(prompt.messages) for prompt in of(tmp_path, *rows, {"prompt": "d"}, system="sys")] == [2, 1, 1, 1]
    for row, said in (({"system": "T", "prompt": chat}, "two system turns"), ({"prompt": "a"}, "no row has the key"),
                      ({"system": 3, "prompt": "a"}, "not a text")):  # fmt: skip
        with pytest.raises(PromptError, match=said):
            of(tmp_path, row, system="system")


@pytest.mark.parametrize(
    "beside",
    [{"tool_calls": [{"id": "c1"}]}, {"images": ["x"]}, {"name": "Ann"}, {"weight": 0}, {"reasoning_content": "hm"}],
)
def test_other_keys_of_a_turn(tmp_path: Path, beside: dict[str, Any]) -> None:
    [key] = beside
    turns = [*HI, {"role": "assistant", "content": "Let me look.", **beside}, {"role": "user", "content": "And?"}]
    with pytest.raises(PromptError, match=f"messages, turn 2: also has {key}") as caught:
        of(tmp_path, {"messages": turns})
    assert f'prompts.ignore = ["{key}"]' in caught.value.hint
    assert len(of(tmp_path, {"messages": turns}, ignore=(key,))[0].messages) == 3
    with pytest.raises(PromptError, match="also has"):
        parquet(tmp_path, pa.Table.from_pylist([{"messages": turns}]))
    assert len(parquet(tmp_path, pa.Table.from_pylist([{"messages": turns}]), ignore=(key,))[0].messages) == 3
    nothing = [*HI, {"role": "assistant", "content": "Yes.", key: None}, {"role": "user", "content": "And?"}]
    assert len(of(tmp_path, {"messages": nothing})[0].messages) == 3


def test_the_same_conversation_once_more_is_no_loss(tmp_path: Path) -> None:
    whole = [*HI, {"role": "assistant", "content": "yes"}]
    assert texts(of(tmp_path, {"prompt": "hi", "messages": whole, "chosen": whole, "score_chosen": 5.0})) == ["hi"]
    with pytest.raises(PromptError, match="also has messages"):
        of(tmp_path, {"prompt": "hi", "messages": [{"role": "system", "content": "S"}, *whole]})
    transcript = {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "prompt": "\n\nHuman: hi\n\nAssistant:"}
    assert texts(of(tmp_path, transcript, format="transcripts", answers=("chosen",))) == ["hi"]
    with pytest.raises(PromptError, match="also has prompt"):
        of(tmp_path, transcript | {"prompt": "\n\nHuman: ho"}, format="transcripts", answers=("chosen",))


def test_given_answers_are_stored_as_they_are(tmp_path: Path) -> None:
    code = "    def f(self):\n        return 1\n"
    turn = {"role": "assistant", "content": code}
    row = {"prompt": "hi", "a": code, "b": [turn], "c": [*HI, turn], "d": turn}
    [prompt] = of(tmp_path, row, answers=("a", "b", "c", "d"))
    assert prompt.answers == (code,) * 4
    [prompt] = of(tmp_path, {"c": "\n\nHuman: hi\n\nAssistant:\n" + code}, format="transcripts", answers=("c",))
    assert prompt.answers == (code.rstrip(),)
    with pytest.raises(PromptError, match="a is a transcript"):
        of(tmp_path, {"prompt": "hi", "a": "\n\nHuman: hi\n\nAssistant: yes"}, answers=("a",))


def test_parts_of_text_are_joined_and_others_refused(tmp_path: Path) -> None:
    parts: list[Any] = [{"type": "text", "text": "Hi"}, {"type": "text", "text": " there"}]
    assert texts(of(tmp_path, {"messages": [{"role": "user", "content": parts}]})) == ["Hi there"]
    for wrong in ({"type": "image_url", "image_url": {"url": "x"}}, {"type": "text"}, "a",
                  {"type": "text", "text": "a", "annotations": ["x"]}):  # fmt: skip
        with pytest.raises(PromptError, match="turn 1"):
            of(tmp_path, {"messages": [{"role": "user", "content": [*parts, wrong]}]})


def test_turns_of_sharegpt(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}, {"from": "human", "value": "And?"}]
    [prompt] = of(tmp_path, {"id": "a1", "conversations": turns})
    assert [turn.role for turn in prompt.messages] == ["user", "assistant", "user"]
    with pytest.raises(PromptError, match="turn 1: from is 'function_call'"):
        of(tmp_path, {"conversations": [{"from": "function_call", "value": "f"}]})


def test_the_last_answer_of_a_conversation_can_be_named(tmp_path: Path) -> None:
    row = {"messages": [*HI, {"role": "assistant", "content": "Hello"}]}
    with pytest.raises(PromptError, match="the last turn is not the user's") as caught:
        of(tmp_path, row, last_answer="refuse")
    assert "prompts.answers" in caught.value.hint
    assert "prompts.last_answer" in caught.value.hint
    [prompt] = of(tmp_path, row, answers=("messages",))
    assert (len(prompt.messages), prompt.answers) == (1, ("Hello",))


# --- texts that hold more than a text


@pytest.mark.parametrize("value", [json.dumps(HI), json.dumps(HI[0]), json.dumps({"messages": HI}), str(HI),
                                   '\n [{"from": "human", "value": "hi"}]'])  # fmt: skip
def test_messages_as_json_text(tmp_path: Path, value: str) -> None:
    with pytest.raises(PromptError, match="prompt is a text that holds messages") as caught:
        of(tmp_path, {"prompt": value})
    assert "json_text" in caught.value.hint
    assert texts(of(tmp_path, {"prompt": value}, json_text="text")) == [value]
    if value != str(HI):
        assert texts(of(tmp_path, {"prompt": value}, json_text="messages")) == ["hi"]
    with pytest.raises(PromptError, match="holds messages"):
        of(tmp_path, {"prompt": "hi", "a": value}, answers=("a",))


@pytest.mark.parametrize("value", ["[1, 2]", '{"a": 1}', "[INST] hi", "{{name}}", "[]", "{broken"])
def test_other_brackets_are_text(tmp_path: Path, value: str) -> None:
    assert texts(of(tmp_path, {"prompt": value})) == [value]
    with pytest.raises(PromptError, match="line 1: prompt"):
        of(tmp_path, {"prompt": value}, json_text="messages")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("blank", ["", " ", "\t", " \t "])
def test_transcripts_of_every_line_end(end: str, blank: str) -> None:
    gap = end + blank + end
    text = f"{gap}Human: How do{end}I bake?{gap}Assistant: With flour.{gap}A lot.{gap}Human: And salt?"
    text += f"{gap}Assistant: A little.{end}"
    assert [turn.content for turn in parse_transcript(text)] == [
        f"How do{end}I bake?", f"With flour.{gap}A lot.", "And salt?", "A little."]  # fmt: skip


def test_a_transcript_without_blank_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="no blank line"):
        parse_transcript("Human: a\nAssistant: b\nHuman: c")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"prompt": "a"}\n'.encode("utf-16"), "UTF-16"), ('{"prompt": "a"}\n'.encode("utf-16-le"), "UTF-16"),
        ('{"prompt": "a"}\n'.encode("utf-32"), "UTF-32"), (bz2.compress(b'{"prompt": "a"}\n'), "bzip2"),
    ],
)  # fmt: skip
def test_bytes_that_are_something_else_are_named(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "p.jsonl").write_bytes(data)
    with pytest.raises(PromptError, match=rf"p\.jsonl, line 1: is not UTF-8 but .*{said}"):
        list(read_prompts(PromptsSection(path="p.jsonl"), tmp_path))


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    for data in (b'\xef\xbb\xbf{"prompt": "a"}\n', b'\xef\xbb\xbf\r\n{"prompt": "a"}\r\n'):
        (tmp_path / "p.jsonl").write_bytes(data)
        assert texts(list(read_prompts(PromptsSection(path="p.jsonl"), tmp_path))) == ["a"]


def test_a_key_that_is_used_cannot_be_ignored() -> None:
    for key in ("prompt", "s"):
        with pytest.raises(ValueError, match="is used"):
            PromptsSection(path="p.jsonl", system="s", ignore=(key,))
