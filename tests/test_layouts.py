"""Exports in the layouts of other trainers: each row holds against what that project documents, written down here by
itself, and says what the same row says in TRL's layout; nothing is lost without a reason."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner
from layout_schemas import DOCUMENTED, MessagePair, OpenAIPair
from pydantic import ValidationError
from run_once import run_once
from small_project import small_project

from constitution.cli import app
from constitution.errors import InputError
from constitution.export import Cleaning, Exported, Settings, export
from constitution.export.card import feature
from constitution.export.formats import FORMATS
from constitution.export.layouts import LAYOUTS
from constitution.export.push import check
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.warehouse import ask, connect

RECIPE = """
name = "laid-out"
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[revise]
rounds = 2
exemplars = 0
[judge]
method = "rubric"
principles = 2
pairs = ["first-last", "parent"]
"""
SHAPES = ("", "S", "UA", "SUA", "U", "USA")
"""What comes before the user's last turn: S a system turn, U one of the user, A an answer. LLaMA-Factory's reader wants
users and answers in turn behind at most one system turn at the front: it would drop the last two."""
ROLES = {"S": "system", "U": "user", "A": "assistant"}
ALTERNATING = ("", "S", "UA", "SUA")
PAIRS = tuple(
    (layout, format) for layout, spec in LAYOUTS.items() for format in spec.tasks if not FORMATS[format].source
)


BROKEN = ("user user", "user system assistant user")
"""Roles of the last two."""
IN_BOTH = (("messages", "robust"), ("llama-factory", "dpo"), ("verl", "grpo"))
"""Layouts and formats that are tried in both file types; the others in their usual one."""


def files_of(layout: str, format: str) -> tuple[str, ...]:
    return LAYOUTS[layout].tasks[format].files[: 2 if (layout, format) in IN_BOTH else 1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str, str], Exported]]:
    """The warehouse, and an export by layout, format and file type."""
    folder = tmp_path_factory.mktemp("layouts")
    rows = []
    for number in range(36):
        before = [
            {"role": ROLES[sign], "content": f"Turn {place} of “{number}”,\u2028 as\n\tit was."}
            for place, sign in enumerate(SHAPES[number % len(SHAPES)])
        ]
        rows.append({"messages": [*before, {"role": "user", "content": f"How does thing {number} work, and why? ü😀"}]})
    run = asyncio.run(run_once(small_project(folder, rows, RECIPE), folder / "warehouse", []))
    exports: dict[tuple[str, str, str], Exported] = {}
    for layout, format in PAIRS:
        for file_type in files_of(layout, format):
            if layout != "trl" and not LAYOUTS[layout].tasks[format].columns:  # these are TRL's
                exports[layout, format, file_type] = exports["trl", format, file_type]
                continue
            asked = {"format": format, "layout": layout, "file_type": file_type, "test": 0.3}
            settings = Settings.model_validate({**asked, "cleaning": Cleaning(dedupe="off")})
            out = folder / layout / f"{format}-{file_type}"
            exports[layout, format, file_type] = export(folder / "warehouse", run.run_id, settings, out)
    return folder / "warehouse", exports


def rows_of(done: Exported) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in done.files:
        path = done.out / file.path
        if path.suffix == ".parquet":
            found += pq.read_table(path).to_pylist()
        else:
            found += [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert len(found) == sum(done.rows.values())
    return found


def card_of(done: Exported) -> str:
    return (done.out / "README.md").read_text(encoding="utf-8")


def said(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row of any layout says: the prompt's turns, and the answers, the better first."""
    if "input" in row and isinstance(row["input"], dict):
        row = {
            "messages": row["input"]["messages"],
            "chosen": row["preferred_output"],
            "rejected": row["non_preferred_output"],
        }
    elif "input" in row:
        system = [{"role": "system", "content": row["system"]}] if row["system"] else []
        row = {**row, "prompt": [*system, {"role": "user", "content": row["input"]}]}
    prompt = row.get("prompt") or row.get("messages") or []
    answers = [row[key] for key in ("chosen", "rejected", "completion") if key in row]
    answers = [
        [{"role": "assistant", "content": each}]
        if isinstance(each, str)
        else each
        if isinstance(each, list)
        else [each]
        for each in answers
    ]
    if not prompt:  # whole conversations
        prompt, answers = answers[0][:-1], [each[-1:] for each in answers]
    if prompt[-1]["role"] == "assistant":
        prompt, answers = prompt[:-1], [prompt[-1:]]
    turns = tuple((turn["role"], turn["content"]) for turn in prompt)
    return turns, *(tuple((turn["role"], turn["content"]) for turn in each) for each in answers)


def held(layout: str, format: str, turns: tuple[tuple[str, str], ...]) -> bool:
    """Whether the layout's reader takes such a conversation, by its documentation."""
    shape = "".join(role[0].upper() for role, _ in turns[:-1])
    if (layout, format) in (("openai", "dpo"), ("axolotl", "reward")):
        return shape in ("", "S")
    return shape in ALTERNATING if layout in ("openai", "llama-factory") else True


@pytest.mark.parametrize(("layout", "format"), [pair for pair in PAIRS if pair[0] != "trl"])
def test_a_layout_says_what_trls_says_in_its_trainers_words(made: Any, layout: str, format: str) -> None:
    root, exports = made
    plain = rows_of(exports["trl", format, "parquet"])
    wanted = Counter(turned for row in plain if held(layout, format, (turned := said(row))[0]))
    assert wanted
    lost = len(plain) - sum(wanted.values())
    for file_type in files_of(layout, format):
        done = exports[layout, format, file_type]
        rows = rows_of(done)
        for row in rows:
            DOCUMENTED[layout, format].model_validate(row)
        assert Counter(map(said, rows)) == wanted
        assert done.dropped.get("layout", 0) == lost
        query = "SELECT drop_detail FROM exported WHERE export_id = '{}' AND drop_reason = 'layout'"
        with connect(root) as connection:
            told = [row[0] for row in ask(connection, query.format(done.export_id)).rows]
        assert len(told) == lost
        assert set(told) <= {"user user", "system user assistant user", "user assistant user", *BROKEN}
        for name in ("p_chosen", "margin", "epsilon", "tags", "prompt_id"):
            assert (name in rows[0]) is (name in plain[0] and "Not kept" not in card_of(done))
    assert len({json.dumps(rows_of(exports[layout, format, each])) for each in files_of(layout, format)}) == 1


OURS = [pair for pair in PAIRS if LAYOUTS[pair[0]].tasks[pair[1]].columns]


@pytest.mark.parametrize(
    ("layout", "format"), [pair for pair in OURS if pair[0] != "verifiers"]
)  # its `answer` is none
def test_a_layout_is_read_back_by_the_section_that_inspect_prints(made: Any, layout: str, format: str) -> None:
    """The same prompts, with the same answers, the preferred one first and known as such."""
    _, exports = made
    for file_type in files_of(layout, format):
        done = exports[layout, format, file_type]
        found, wanted = [], Counter(map(said, rows_of(done)))
        for file in done.files:
            shown = CliRunner().invoke(app, ["prompts", "inspect", str(done.out / file.path)])
            assert shown.exit_code == 0, shown.output
            section = tomllib.loads(shown.output[shown.output.index("\n[prompts]\n") :])["prompts"]
            found += list(read_prompts(PromptsSection.model_validate(section), Path("/")))
        turns = [tuple((turn.role, turn.content) for turn in prompt.messages) for prompt in found]
        answers = [[(("assistant", answer),) for answer in prompt.answers] for prompt in found]
        assert Counter((asked, *given) for asked, given in zip(turns, answers, strict=True)) == wanted
        pairs = format in ("dpo", "robust", "reward")
        assert {prompt.gold for prompt in found} == {0 if pairs else None}


def test_the_schemas_refuse_what_the_readers_refuse() -> None:
    turn, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    pair = {"input": {"messages": [turn]}, "preferred_output": [answer], "non_preferred_output": [answer]}
    OpenAIPair.model_validate(pair)
    wrong: list[dict[str, Any]] = [
        {**pair, "p_chosen": 0.6},
        {**pair, "preferred_output": answer},
        {**pair, "preferred_output": [turn]},
        {**pair, "input": {"messages": [turn, answer, turn]}},
    ]
    for row in wrong:
        with pytest.raises(ValidationError):
            OpenAIPair.model_validate(row)
    with pytest.raises(ValidationError):
        MessagePair.model_validate({"messages": [turn], "chosen": [answer], "rejected": [answer]})  # TRL's


def test_which_turns_are_learnt(made: Any) -> None:
    """TRL learns a completion alone. OpenAI and Axolotl learn every answer of a conversation unless they are told."""
    _, exports = made
    several = 0
    for row in rows_of(exports["openai", "sft", "jsonl"]):
        *before, last = row["messages"]
        assert all((turn["role"] == "assistant") is (turn.get("weight") == 0) for turn in before)
        assert all("weight" not in turn for turn in before if turn["role"] != "assistant")
        assert last["role"] == "assistant"
        assert last.get("weight", 1) == 1
        several += any(turn["role"] == "assistant" for turn in before)
    assert several
    for row in rows_of(exports["axolotl", "sft", "parquet"]):
        assert [turn["training"] for turn in row["messages"]] == [False] * (len(row["messages"]) - 1) + [True]


def test_llama_factory_is_told_of_each_split(made: Any) -> None:
    _, exports = made
    for format, ranking in (("dpo", True), ("reward", True), ("sft", False), ("kto", False)):
        done = exports["llama-factory", format, "parquet"]
        info = json.loads((done.out / "dataset_info.json").read_text(encoding="utf-8"))
        assert set(info) == {f"{format}_train", f"{format}_test"}
        for name, entry in info.items():
            split = name.removeprefix(f"{format}_")
            files = sorted(path.name for path in (done.out / entry["file_name"]).iterdir())
            assert files == ["00000-of-00001.parquet"]  # its reader takes all files of a folder
            assert entry["formatting"] == "sharegpt"
            assert entry.get("ranking", False) is ranking
            columns = pq.read_schema(done.out / entry["file_name"] / files[0]).names
            assert set(entry["columns"].values()) <= set(columns)
            roles = {entry["tags"][f"{role}_tag"] for role in ("user", "assistant", "system")}
            assert roles == {"user", "assistant", "system"}
            assert done.rows[split] == pq.read_metadata(done.out / entry["file_name"] / files[0]).num_rows
        assert "dataset_info.json" in check(done.out).paths  # what a push sends
        (done.out / "dataset_info.json").write_text("{}", encoding="utf-8")
        with pytest.raises(InputError, match=r"dataset_info\.json: is not as it was exported"):
            check(done.out)


def test_what_a_rubric_asks_goes_to_the_reward_function(made: Any) -> None:
    _, exports = made
    plain = {row["prompt_id"]: row for row in rows_of(exports["trl", "grpo", "parquet"])}
    for layout, key in (("verl", "extra_info"), ("openrlhf", "label"), ("verifiers", "info")):
        for row in rows_of(exports[layout, "grpo", "parquet"]):
            asked = json.loads(row[key]["asked"] if layout == "verl" else row[key])
            assert asked == {name: plain[row["prompt_id"]][name] for name in ("rubric", "principles", "criteria")}
            assert asked["principles"]
            assert asked["rubric"]
    assert {row["reward_model"]["ground_truth"] for row in rows_of(exports["verl", "grpo", "parquet"])} == {""}
    infos = [row["extra_info"] for row in rows_of(exports["verl", "grpo", "parquet"])]
    assert sorted(info["index"] for info in infos) == list(range(36))
    assert {info["split"] for info in infos} == {"train", "test"}


def test_the_card_names_what_a_layout_does_not_keep(made: Any) -> None:
    _, exports = made
    for (layout, format, _), done in exports.items():
        text = card_of(done)
        assert ("Not kept" in text) is ((layout, format) in (("openai", "dpo"), ("openai", "sft")))
        assert "{%" not in text
        assert "{{" not in text
    text = card_of(exports["openai", "dpo", "jsonl"])
    (line,) = [line for line in text.splitlines() if line.startswith("Not kept")]
    assert {"p_chosen", "chosen_id", "tags"} <= (named := set(re.findall(r"`(\w+)`", line)))
    assert not named & {"prompt", "chosen", "rejected"}


def lines_of(done: Exported) -> tuple[str, Any]:
    """The language of the card's lines, and they; YAML as it is read."""
    language, lines = re.findall(r"## Load it\n\n```(\w+)\n(.*?)\n```", card_of(done), re.DOTALL)[0]
    return language, yaml.safe_load(lines) if language == "yaml" else lines


@pytest.mark.parametrize(("layout", "format"), OURS)
def test_the_cards_lines_are_of_their_language_and_name_what_is_there(made: Any, layout: str, format: str) -> None:
    _, exports = made
    done = exports[layout, format, LAYOUTS[layout].tasks[format].files[0]]
    language, lines = lines_of(done)
    if language == "python":
        compile(lines, "README.md", "exec")
    named = re.findall(r"DATA/([\w./-]+)", str(lines))
    assert all((done.out / path).is_file() for path in named)
    if layout == "llama-factory":
        assert {lines["dataset"], lines["eval_dataset"]} == {f"{format}_train", f"{format}_test"}
        assert lines["stage"] == {"reward": "rm"}.get(format, format)
    if layout == "axolotl":
        for part in lines["datasets"]:
            assert part["split"] in done.rows
            assert part["type"].split(".")[0] in ("chat_template", "bradley_terry", "chatml")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--layout verl --format dpo", "layout verl has sft, grpo: verl has no task for dpo"),
        ("--layout openai --format kto", "layout openai has dpo, sft, grpo: OpenAI fine-tuning has no task for kto"),
        ("--layout openrlhf --format kto", "OpenRLHF has no task for kto"),
        ("--layout llama-factory --format robust", "LLaMA-Factory has no task for robust"),
        (
            "--layout openai --format dpo --file-type parquet",
            "--file-type: OpenAI fine-tuning reads dpo as jsonl, not parquet",
        ),
        ("--layout verl --format sft --file-type jsonl", "--file-type: verl reads sft as parquet, not jsonl"),
        ("--layout axolotl --format dpo --with-reasoning", "Axolotl does not read `reasoning_content`"),
    ],
)
def test_what_a_trainer_has_no_reader_for_is_refused(made: Any, tmp_path: Path, options: str, told: str) -> None:
    root, _ = made
    words = ["export", "--warehouse", str(root), "--out", str(tmp_path / "out"), *options.split()]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, InputError)
    assert told in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("layout", "format"), [("messages", "sft"), ("messages", "dpo"), ("openrlhf", "reward")])
def test_reasoning_goes_with_the_answer(made: Any, tmp_path: Path, layout: str, format: str) -> None:
    root, exports = made
    done = exports[layout, format, LAYOUTS[layout].tasks[format].files[0]]
    settings = Settings(format=format, layout=layout, with_reasoning=True, test=0.3, cleaning=Cleaning(dedupe="off"))
    thought = export(root, done.run_id, settings, tmp_path / "out")
    assert Counter(map(said, rows_of(thought))) == Counter(map(said, rows_of(done)))
    for row in rows_of(thought):
        answers = [row[key] for key in ("chosen", "rejected") if key in row] or [row["messages"]]
        assert all("reasoning_content" in turns[-1] for turns in answers)


def test_every_format_has_trls_layout_and_every_layout_is_documented() -> None:
    assert set(LAYOUTS["trl"].tasks) == set(FORMATS)
    assert set(DOCUMENTED) == {pair for pair in PAIRS if pair[0] != "trl"}
    text = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    for layout, spec in LAYOUTS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{layout}` |")]
        assert set(re.findall(r"\w+", line.split("|")[3])) >= set(spec.tasks) or line.split("|")[3].strip() == "all"


def test_datasets_does_not_take_one_folder_for_another_of_its_name(made: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """It keeps what it has read by the folder's name and the card's header alone (4.0 to 5.2)."""
    datasets = pytest.importorskip("datasets")
    _, exports = made
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for layout in ("trl", "axolotl", "llama-factory"):
        done = exports[layout, "dpo", "parquet"]
        loaded = datasets.load_dataset(str(done.out))
        assert [row for split in ("train", "test") for row in loaded[split].to_list()] == rows_of(done)


def test_the_header_of_json_lines_says_each_columns_type(made: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """`datasets` guesses a type from the first 10 MB alone, and fails on a column that has values only behind them."""
    datasets = pytest.importorskip("datasets")
    _, exports = made
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for (layout, format, file_type), done in exports.items():
        if file_type == "jsonl":
            config = sorted({file.config for file in done.files})[0]
            loaded = datasets.load_dataset(str(done.out), config)["train"]
            rows = [row for row in rows_of(done) if format != "robust" or f"eps-{row['epsilon']:.2f}" == config]
            if layout != "openai":  # its files have no keys of null
                assert loaded.to_list() == rows[: len(loaded)]
            if (layout, format, "parquet") in exports:
                file = next(file for file in exports[layout, format, "parquet"].files if file.config == config)
                plain = datasets.Dataset.from_parquet(str(exports[layout, format, "parquet"].out / file.path))
                assert loaded.features == plain.features
    assert feature("a", pa.list_(pa.struct([("b", pa.list_(pa.string())), ("c", pa.float64())]))) == {
        "name": "a",
        "list": [{"name": "b", "list": "string"}, {"name": "c", "dtype": "float64"}],
    }
