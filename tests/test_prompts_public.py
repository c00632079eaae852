"""Rows in the shapes of public data sets: read as what they are, or refused; never as something else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.prompts.transcripts import is_templated
from constitution.recipe import PromptsSection
from constitution.records import Prompt

QUESTION = {"role": "user", "content": "q"}


def of(folder: Path, *rows: Any, **settings: Any) -> list[Prompt]:
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_prompts(PromptsSection(path="p.jsonl", **settings), folder))


def refused(folder: Path, *rows: Any, **settings: Any) -> str:
    with pytest.raises(PromptError) as caught:
        of(folder, *rows, **settings)
    return f"{caught.value} | {caught.value.hint}"


WRITTEN_OUT = {
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "llama 2": "<s>[INST] hi [/INST] hello </s><s>[INST] and now? [/INST]",
    "llama 3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "zephyr": "<|system|>\n</s>\n<|user|>\nhi</s>\n<|assistant|>\n",
    "open assistant": "<|prompter|>hi<|endoftext|><|assistant|>",
    "gemma": "<bos><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n",
    "deepseek": "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜>",
    "harmony": "<|start|>user<|message|>hi<|end|>",
    "helpsteer": "hi\n<extra_id_1>Assistant\nhello\n<extra_id_1>User\nand now?",
    "guanaco": "### Human: hi### Assistant: hello### Human: and now?",
    "vicuna": "USER: hi ASSISTANT: hello</s>USER: and now?",
    "alpaca": "Below is an instruction.\n\n### Instruction:\nhi\n\n### Response:\nhello",
    "helm": "User: hi\n\nAssistant: hello\n\nUser: and now?\n\nAssistant:",
    "claude 2": "Be kind.\n\nHuman: hi\n\nAssistant:",
    "bold": "**User:** hi\n**Assistant:** hello",
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_conversations_that_a_template_has_written_out(tmp_path: Path, name: str) -> None:
    """They would be one turn of the user, marks and answers included."""
    text = WRITTEN_OUT[name]
    assert "json_text" in refused(tmp_path, {"text": text}, field="text")
    assert "json_text" in refused(tmp_path, {"prompt": "q", "chosen": text}, answers=("chosen",))
    assert of(tmp_path, {"text": text}, field="text", json_text="text")[0].messages[0].content == text


@pytest.mark.parametrize(
    "text",
    [
        "[INST] means instruction",
        "What does <|im_start|>user mean?",
        "User: is a word",
        "Explain ### Response: in a template",
        "System: Windows 11\nModel: XPS 13\nIt crashes.",
        "As an AI: what is your opinion?",
        "Compare these.\nInstruction: a\nResponse: b",
        "The assistant: who is it?",
        "Human rights: an essay",
        "ratio of user:assistant",
    ],
)
def test_texts_that_only_look_like_it(tmp_path: Path, text: str) -> None:
    assert of(tmp_path, {"prompt": text})[0].messages[0].content == text


def test_the_look_costs_little_whatever_the_text_is() -> None:
    begun = time.process_time()
    for piece in (" ", "\n", "User:\n", "### Instruction:\n", "[INST]", "<s> ", "\n<extra_id_1>", "!?", "system::::"):
        for end in ("", ":", "Assistant:", "x"):
            is_templated(piece * 50_000 + end)
    assert time.process_time() - begun < 10


def test_lists_of_texts_in_a_text(tmp_path: Path) -> None:
    """As lmsys-arena-human-preference-55k has prompts and answers, and pandas writes them to CSV."""
    row = {"prompt": '["Is it right?", "And now?"]', "response_a": '["a", "b"]', "response_b": '["c", "d"]'}
    assert "list of texts" in refused(tmp_path, row)
    assert "list of texts" in refused(tmp_path, {**row, "prompt": "q"}, answers=("response_a", "response_b"))
    assert "list of texts" in refused(tmp_path, {"prompt": "['It\\'s right?', \"And now?\"]"})
    assert of(tmp_path, row, json_text="text")[0].messages[0].content == row["prompt"]
    for plain in ("['a', 'b'] is a list", "[1, 2]", "['a', b]", '["a", 1]'):
        assert of(tmp_path, {"prompt": plain})[0].messages[0].content == plain


@pytest.mark.parametrize(
    "key",
    ["systemPrompt", "SystemPrompt", "System Prompt", "system.prompt", "chatHistory", "Tools JSON", "tools_json",
     "toolDefinitions", "toolCalls", "imageURL", "imageUrls", "system_text", "context_str", "conversationHistory",
     "retrievedContexts", "definition", "userPrompt"],
)  # fmt: skip
def test_keys_in_every_spelling(tmp_path: Path, key: str) -> None:
    row = {"prompt": "q", key: "x"}
    assert key in refused(tmp_path, row)
    assert of(tmp_path, row, ignore=(key,))[0].messages[0].content == "q"
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "p.parquet")
    with pytest.raises(PromptError, match="would have been shown"):
        list(read_prompts(PromptsSection(path="p.parquet"), tmp_path))


def test_keys_that_only_begin_alike(tmp_path: Path) -> None:
    row = {"prompt": "q", "input_length": 3, "system_id": "s", "contextual": "x", "tool_count": 1, "image_id": "7"}
    assert len(of(tmp_path, row)) == 1


def test_rows_that_are_one_turn_of_a_conversation(tmp_path: Path) -> None:
    """OpenAssistant's messages: an answer is no prompt, and a reply says nothing without what it replies to."""
    root = {"message_id": "1", "parent_id": None, "text": "hi", "role": "prompter"}
    answer = {"message_id": "2", "parent_id": "1", "text": "hello", "role": "assistant"}
    assert "parent_id" in refused(tmp_path, root, answer, field="text")
    assert "parent_id" in refused(tmp_path, {**root, "parent_id": "2"}, field="text")
    assert "not what a user says" in refused(tmp_path, root, answer, field="text", ignore=("parent_id",))
    assert [prompt.messages[0].content for prompt in of(tmp_path, root, field="text")] == ["hi"]
    assert "shown" in refused(tmp_path, {"prompt": "q", "role": "pirate"})
    assert len(of(tmp_path, {"prompt": "q", "from": "ann@example.org", "speaker": "Ann"})) == 1
    ignored = of(tmp_path, root, answer, field="text", ignore=("parent_id", "role"))
    assert [prompt.messages[0].content for prompt in ignored] == ["hi", "hello"]


def test_what_is_null_is_said_to_be(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": None}
    assert "rejected is null" in refused(tmp_path, row, answers=("chosen", "rejected"))
    transcripts = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
    assert 'format = "transcripts"' in refused(tmp_path, transcripts, answers=("chosen", "rejected"))


def test_what_only_repeats_the_prompt_or_is_the_json_of_nothing_is_not_lost(tmp_path: Path) -> None:
    """orpo-dpo-mix has the prompt twice, ultrachat and no_robots have one turn of the messages beside them."""
    chat = [QUESTION, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}]
    row = {"prompt": "q", "question": "q", "messages": [*chat, {"role": "assistant", "content": "b"}], "tools": "[]"}
    [found] = of(tmp_path, row, field="messages", answers=("messages",))
    assert ([turn.content for turn in found.messages], found.answers) == (["q", "a", "r"], ("b",))
    assert "question" in refused(tmp_path, {**row, "question": "a"}, field="messages", answers=("messages",))
    assert "tools" in refused(tmp_path, {"prompt": "q", "tools": "[{}]"})


def test_an_answer_of_two_turns_is_not_made_one(tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert "two turns of the assistant" in refused(tmp_path, {"prompt": "q", "chosen": turns}, answers=("chosen",))
    assert "two turns of the assistant" in refused(tmp_path, {"messages": [QUESTION, *turns]}, answers=("messages",))


def test_views_of_text_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array(["a", "a", " b"], pa.string_view())}), tmp_path / "p.parquet")
    found = list(read_prompts(PromptsSection(path="p.parquet"), tmp_path))
    assert [prompt.messages[0].content for prompt in found] == ["a", "a", " b"]


# --- folders of the hub


def folder(place: Path, *names: str, **settings: Any) -> list[str]:
    for name in names:
        path = place / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.table({"prompt": [name]}), path)
        else:
            path.write_text(json.dumps({"prompt": name}) + "\n")
    section = PromptsSection(format="hub", dataset="set", **settings)
    return [prompt.messages[0].content for prompt in read_prompts(section, place)]


OLD = "data/train-0000{}-of-00002-4feeb3f83346a0e{}.parquet"


def test_shards_with_a_digest_in_their_names(tmp_path: Path) -> None:
    assert len(folder(tmp_path, OLD.format(0, 1), OLD.format(1, 2))) == 2


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((OLD.format(0, 1),), "of the 2 files of train, 1"),
        ((OLD.format(0, 1), OLD.format(1, 2), OLD.format(1, 3)), "several copies"),
        ((OLD.format(0, 1), OLD.format(1, 2), "data/train-00000-of-00001.parquet"), "several copies"),
        (("default/train/0000.parquet", "default/train/0002.parquet"), "number 1"),
        (("default/train/0001.parquet", "default/train/0003.parquet"), "number 2"),
        (("train-00002.jsonl",), "number 1"),
        (("train-1.jsonl", "train-2.json"), "as json and as jsonl"),
        (("train.parquet", "train.csv"), "as csv and as parquet"),
        (("train.jsonl", "train.jsonl.zst"), "copies of one another"),
        (("train.jsonl", "train.jsonl.xz"), "train.jsonl.xz"),
        (("train/a.jsonl", "train/data-00000-of-00001.arrow"), "arrow"),
        (("train.xlsx",), "but train.xlsx"),
    ],
)
def test_folders_that_are_not_whole_or_twice_there(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        folder(tmp_path, *names)


@pytest.mark.parametrize(
    "names",
    [
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0004.parquet"),
        ("train-2019.jsonl", "train-2021.jsonl"),
        ("train/a.jsonl", "train/dataset_info.json", "train/state.json"),
        ("train.jsonl", "test.csv", "README.md"),
    ],
)
def test_folders_that_are_whole(tmp_path: Path, names: tuple[str, ...]) -> None:
    wanted = [name for name in names if "train" in name and not name.endswith(".json")]
    assert folder(tmp_path, *names) == wanted
