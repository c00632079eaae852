"""The card of an export: what the hub reads of it, what a person reads, and that data cannot break either."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from constitution.audit.summary import Headline
from constitution.errors import InputError
from constitution.export.card import CardFacts, card, header, write_card
from constitution.export.formats import Field
from constitution.export.outcome import DataFile, Exported
from constitution.export.reasons import Dropped
from constitution.export.settings import CardOptions, Cleaning, Settings
from constitution.records import Constitution, Figure, Principle, Run
from constitution.shown import fenced
from constitution.shown import markdown as escape

COLUMNS = (Field("prompt", "messages", "The conversation.", ""), Field("p_chosen", "number", "How sure.", ""))
RUN = Run(
    run_id="hh-0123456789ab",
    recipe={
        "name": "hh",
        "description": "Harmless.",
        "prompts": {"path": "/home/someone/secret/prompts.jsonl"},
        "judge": {"pairs": ["first-last", "parent"]},
    },
    constitution="general@1.1.0",
    constitution_digest="c" * 64,
    templates={},
    models={
        "policy": {"name": "small", "engine": "vllm", "revision": "abc123"},
        "judge one": {"name": "large", "engine": "openai", "digest": "d" * 64},
    },
    code_version="0.1.0",
    hardware={},
    started_at="2026-11-22T10:00:00+00:00",
    finished_at="2026-11-22T11:00:00+00:00",
)
CONSTITUTION = Constitution(
    "general",
    "1.1.0",
    "What is asked of answers.",
    (
        Principle("kind", comparison_question="Which answer is kinder?", weight=2.0),
        Principle("honest", critique_request="Say what is untrue.", revision_request="Mend it."),
    ),
    source="arXiv 2212.08073",
    license="cc-by-4.0",
)
FILES = (
    DataFile("data/train-00000-of-00002.parquet", "train", 1000),
    DataFile("data/train-00001-of-00002.parquet", "train", 940),
    DataFile("data/test-00000-of-00001.parquet", "test", 60),
)
DROPPED = {"tie": 300, "near-duplicate": 700}


def facts(format: str = "dpo", files: tuple[DataFile, ...] = FILES, **changes: Any) -> CardFacts:
    settings = changes.pop("settings", Settings(format=format))
    dropped = changes.pop("dropped", DROPPED)
    done = Exported(Path("out"), settings.export_id, RUN.run_id, True, files, dropped)
    given: dict[str, Any] = {"settings": settings, "run": RUN, "constitution": CONSTITUTION, "columns": COLUMNS}
    return CardFacts(done=done, **(given | changes))


def metadata(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert isinstance(found, dict)
    return found


def rows_of(text: str, table: str) -> list[list[str]]:
    """Cells of the Markdown table whose header begins so."""
    lines = text[text.index(f"| {table} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_votes_that_are_mostly_not_on_a_label_are_reported_without_an_audit() -> None:
    run = replace(RUN, counts={"judgements": 1200, "off_label": 1100})
    for format, told in {"dpo": True, "reward": True, "kto": True, "sft": False, "grpo": False}.items():
        text = card(facts(format, run=run), CardOptions())
        assert ("In 1,100 of the run's 1,200 votes most of the probability is on other words" in text) is told
    assert "other words" not in card(facts(run=replace(RUN, counts={"judgements": 9, "off_label": 0})), CardOptions())
    assert "other words" not in card(facts(), CardOptions())


def test_the_hub_reads_the_header() -> None:
    found = metadata(card(facts(), CardOptions(license="Apache-2.0", title="Harmless pairs")))
    assert found["license"] == "apache-2.0"
    assert found["pretty_name"] == "Harmless pairs"
    assert found["size_categories"] == "1K<n<10K"
    assert found["task_categories"] == ["text-generation"]
    assert {"dpo", "rlaif", "constitutional-ai", "synthetic"} <= set(found["tags"])
    assert "language" not in found
    assert found["configs"] == [
        {
            "config_name": "default",
            "description": f"data {facts().done.digest[:16]}",
            "default": True,
            "data_files": [
                {"split": "train", "path": "data/train-*.parquet"},
                {"split": "test", "path": "data/test-*.parquet"},
            ],
        }
    ]


def test_each_epsilon_is_a_config_and_none_is_the_default() -> None:
    files = tuple(
        DataFile(f"data/{name}/{split}-00000-of-00001.parquet", split, 10, name, epsilon)
        for name, epsilon in (("eps-0.02", 0.0213), ("eps-0.31", 0.3071))
        for split in ("train", "test")
    )
    text = card(facts("robust", files=files), CardOptions())
    configs = metadata(text)["configs"]
    assert [one["config_name"] for one in configs] == ["eps-0.02", "eps-0.31"]
    assert not any("default" in one for one in configs)
    assert configs[1]["data_files"][0] == {"split": "train", "path": "data/eps-0.31/train-*.parquet"}
    assert rows_of(text, "config")[2] == ["eps-0.31, ε = 0.3071", "train", "10"]
    assert 'load_dataset("DATA", "eps-0.02")' in text
    assert 'loss_type="robust", label_smoothing=0.0213' in text


@pytest.mark.parametrize(("rows", "size"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (2_000_000, "1M<n<10M")])
def test_size_categories(rows: int, size: str) -> None:
    files = (DataFile("data/train-00000-of-00001.parquet", "train", rows),)
    assert metadata(card(facts(files=files), CardOptions()))["size_categories"] == size


def test_the_header_is_what_the_hubs_library_reads_back() -> None:
    from huggingface_hub import DatasetCard

    german = facts(settings=Settings(format="dpo", cleaning=Cleaning(language=("en", "de"))))
    text = card(german, CardOptions())
    read = DatasetCard(text)
    assert vars(read.data)["language"] == ["en", "de"]
    assert f"{read.data.to_yaml()}\n" == header(german, CardOptions())
    assert read.text.lstrip().startswith("# hh: preference pairs\n")


def test_counts_by_split_and_reason() -> None:
    text = card(facts(), CardOptions())
    assert "3,000 candidates: 2,000 kept, 1,000 dropped." in text
    assert rows_of(text, "config") == [["default", "train", "1,940"], ["default", "test", "60"]]
    assert rows_of(text, "dropped because") == [
        ["tie", Dropped.TIE.text, "300"],
        ["near-duplicate", Dropped.NEAR_DUPLICATE.text, "700"],
    ]
    assert f"WHERE run_id = 'hh-0123456789ab' AND export_id = '{Settings(format='dpo').export_id}'" in text


def test_where_it_comes_from_without_the_places_of_a_machine(tmp_path: Path) -> None:
    (tmp_path / "mmlu.jsonl").write_text('{"prompt": "x"}')
    cleaning = Cleaning(decontaminate=(tmp_path / "mmlu.jsonl",))
    text = card(facts(settings=Settings(format="dpo", cleaning=cleaning)), CardOptions())
    for told in (
        "general@1.1.0",
        "c" * 64,
        "abc123",
        "d" * 64,
        "large (openai)",
        "| judge.pairs | first-last, parent |",
        "prompts.jsonl",
        "mmlu.jsonl",
    ):
        assert told in text
    assert "/home" not in text
    assert str(tmp_path) not in text
    assert rows_of(text, "principle") == [
        ["kind", "Which answer is kinder?", "2"],
        ["honest", "Say what is untrue.", "1"],
    ]
    assert rows_of(text, "column")[0] == ["`prompt`", r"struct(role varchar, content varchar)\[\]", "The conversation."]


def test_licence_is_said_or_said_to_be_unknown() -> None:
    unknown = card(facts(), CardOptions())
    assert metadata(unknown)["license"] == "unknown"
    assert "**Unknown**" in unknown
    stated = card(facts(), CardOptions(license="cc-by-4.0"))
    assert "cc-by-4.0, as stated by" in stated
    assert "**Unknown**" not in stated
    assert "The constitution's: cc-by-4.0." in unknown
    with pytest.raises(InputError, match="no identifier of a licence"):
        CardOptions(license="mine\n---\nlicense: mit")


def test_settings_and_what_was_not_looked_for() -> None:
    settings = Settings(
        format="dpo",
        min_margin=0.1,
        min_agreement=0.75,
        consistent_only=True,
        labels="sampled",
        principles=("kind",),
        where="turns < 5",
        test=0.1,
        seed=7,
        cleaning=Cleaning(dedupe="exact", min_words=3, language=("en", "fr"), drop_refusals=True),
    )
    text = card(facts(settings=settings), CardOptions())
    asked = {name.strip("`"): value for name, value, _ in rows_of(text, "setting")}
    assert "clip" not in asked
    expected = {"min_margin": "0.1", "min_agreement": "0.75", "consistent_only": "yes", "labels": "sampled"}
    expected |= {"principles": "kind", "where": r"turns \< 5", "test": "0.1", "seed": "7", "dedupe": "exact"}
    expected |= {"min_words": "3", "max_words": "–", "language": "en, fr", "drop_refusals": "yes"}
    assert {name: asked[name] for name in expected} == expected
    assert (
        "Not looked for: near duplicates, overlap with evaluation sets, boilerplate, personal data and secrets, "
        "answers that still break a principle by its own votes." in text
    )
    assert "the language" not in card(facts("grpo"), CardOptions())


def test_what_the_audit_says() -> None:
    told = (
        Headline("alignment", "", "label", 0.52, 0.47, 0.57, 400, ""),
        Headline("position_effect", "one", "", 0.81, 0.78, 0.84, 900, ""),
    )
    text = card(facts(headlines=told), CardOptions())
    effect = ["Effect of the first position", "one", "\\+0.81", "\\+0.78 to +0.84", "900", "prefers the first position"]
    assert effect in rows_of(text, "| judge")
    assert "- Agreement with gold, label: 52.0\xa0% (47.0 to 57.0\xa0%), n = 400: no better than chance" in text
    assert "was not audited" not in text
    assert "made again, by fewer principles" not in text
    fewer = Settings(format="dpo", principles=("kind",))
    assert "made again, by fewer principles" in card(facts(headlines=told, settings=fewer), CardOptions())


def test_an_export_of_a_run_without_audit_says_so_and_how() -> None:
    text = card(facts(), CardOptions())
    assert "**The run was not audited**" in text
    assert "```sh\nconstitution audit hh-0123456789ab\n```" in text
    nothing = card(facts(figures=(Figure("hh-0123456789ab", "alignment", None, 0, note="no gold"),)), CardOptions())
    assert "was not audited" not in nothing
    assert "none of the chief figures could be measured" in nothing


def test_what_the_scorecard_says_of_the_answers() -> None:
    figures = (
        Figure("r", "scorecard_undesired", 0.25, 200, 0.2, 0.31, judge="one", subject="any/2"),
        Figure("r", "scorecard_undesired", 0.125, 200, 0.1, 0.2, judge="one", subject="insults/2"),
        Figure("r", "scorecard_refusal", 0.5, 100, 0.4, 0.6, judge="one", subject="full/0"),
        Figure("r", "scorecard_helpful", None, 0, note="no question", subject="0"),
    )
    text = card(facts(figures=figures), CardOptions())
    assert rows_of(text, "figure") == [
        ["refusal", "full/0", "one", "50.0\xa0%", "40.0\xa0% to 60.0\xa0%", "100"],
        ["undesired", "any/2", "one", "25.0\xa0%", "20.0\xa0% to 31.0\xa0%", "200"],
    ]
    assert "What the answers are" not in card(facts(), CardOptions())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"finished_at": None}, "**The run is not finished.**"),
        ({"models": {"policy": {"name": "pocket", "engine": "transformers"}}}, "**A rehearsal.**"),
        ({"models": {"judge": {"name": "fake", "engine": "fake"}}}, "**Not from a language model.**"),
    ],
)
def test_what_a_reader_must_know_first(changes: dict[str, Any], told: str) -> None:
    assert told not in card(facts(), CardOptions())
    assert told in card(facts(run=replace(RUN, **changes)), CardOptions())


HOSTILE = (
    "a | b\n\n---\nlicense: mit\n---\n# <script>alert(1)</script> [x](javascript:y) `c` *d* _e_ ![f](g) {{ 7*7 }} "
    "&lt;\u2028"
)


def test_hostile_names_stay_text() -> None:
    """Names of principles, runs and recipes cannot end a table's row, begin a block, or be read as HTML."""
    from markdown_it import MarkdownIt

    principle = Principle(f"id{HOSTILE}", comparison_question=f"- {HOSTILE}")
    hostile = facts(
        run=replace(
            RUN,
            recipe={"name": HOSTILE, "description": HOSTILE, "prompts": {"dataset": HOSTILE}},
            models={HOSTILE: {"name": HOSTILE, "engine": HOSTILE, "revision": HOSTILE}},
        ),
        constitution=Constitution(HOSTILE, "1.0.0", HOSTILE, (principle,), source=HOSTILE, license=HOSTILE),
        settings=Settings(format="dpo", where="a = '```\n# not a heading\n```'", principles=(HOSTILE,)),
        headlines=(Headline("alignment", HOSTILE, "label", 0.5, 0.4, 0.6, 9, HOSTILE),),
    )
    plain = card(facts(settings=Settings(format="dpo", where="a", principles=("p",))), CardOptions(title="t"))
    text = card(hostile, CardOptions(title=HOSTILE))
    assert metadata(text)["license"] == "unknown"
    assert metadata(text)["pretty_name"].startswith("a | b --- license: mit")
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text.split("\n---\n", 1)[1])
    kinds = {child.type for token in tokens for child in token.children or ()} | {token.type for token in tokens}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "hr", "em_open"}, kinds
    headings = [token.tag for token in tokens if token.type == "heading_open"]
    assert headings == [
        token.tag for token in parser.parse(plain.split("\n---\n", 1)[1]) if token.type == "heading_open"
    ]
    assert "49" not in text
    assert len(rows_of(text, "principle")) == 1
    assert len(rows_of(text, "principle")[0]) == 3
    shown = parser.render(f"| a |\n|---|\n| {escape(HOSTILE)} |\n")
    assert "<script>" not in shown
    assert "a | b --- license: mit --- # &lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:y) `c` *d* _e_" in shown


def test_text_that_would_begin_a_list_does_not() -> None:
    from markdown_it import MarkdownIt

    for text in ("- a", "1. a", "12) a", "+ a", "# a", "---", "===", "> a", "* a", "~~~"):
        assert MarkdownIt().render(escape(text)).startswith("<p>"), text
    assert fenced("````", "sql").startswith("`````sql\n")


def test_the_same_facts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_card(tmp_path / name, facts(), CardOptions())
    written = (tmp_path / "a" / "README.md").read_bytes()
    assert written == (tmp_path / "b" / "README.md").read_bytes()
    assert b"\r" not in written
    assert written.decode() == card(facts(), CardOptions())


@pytest.mark.parametrize("format", ["dpo", "reward", "kto", "sft", "grpo"])
def test_the_lines_that_load_it_are_python_and_name_what_trl_has(format: str) -> None:
    from importlib.metadata import distribution

    text = card(facts(format), CardOptions())
    code = text.split("```python\n")[1].split("\n```")[0]
    compile(code, "README.md", "exec")
    assert 'eval_dataset=data["test"]' in code
    (names,) = re.findall(r"from trl import (.+)", code)
    listed = Path(str(distribution("trl").locate_file("trl/__init__.py"))).read_text(encoding="utf-8")
    assert all(f'"{name}"' in listed for name in names.split(", "))
    assert not re.search(r"\n{3}", text.replace(code, ""))
    assert "{" not in text.replace(code, "")
