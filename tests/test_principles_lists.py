"""One principle a line, an item, a row: what each becomes, and that nothing goes missing without a word."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from constitution.cli.principles import principles
from constitution.errors import PrincipleError
from constitution.pipeline import open_run, prepare
from constitution.principles import How, check, import_files, load_constitution, read_constitution
from constitution.principles.languages import languages
from constitution.principles.statements import kind_of
from constitution.recipe import load_recipe
from constitution.records import Principle

KINDS = {
    "en": {
        "asks": [
            "Which answer is kinder?",
            "Please choose the response that says less than it knows.",
            "Which of these is more modest? Choose the shorter response.",
            "Compare the responses in tone and choose the warmer one.",
            "In which answer is more respect?",
        ],
        "critiques": ["Identify where the assistant's last response is rude.", "Point out what the answer leaves out."],
        "one_answer": ["Does the answer say what to do next?", "Is it kind?"],
        "statement": [
            "The AI should not be rude.",
            "Do not insult people.",
            "Choose kindness over cleverness.",
            "Consider how the person feels.",
            "“AI should help as much as it can”",
            "Explain things step by step.",
            "It seems that rules depend on context.",
        ],
    },
    "de": {
        "asks": ["Welche Antwort ist freundlicher?", "Wähle die Antwort, die weniger behauptet."],
        "critiques": ["Nenne, was an der Antwort unhöflich ist."],
        "one_answer": ["Ist die Antwort höflich?", "Nennt sie den nächsten Schritt?"],
        "statement": ["Die KI soll niemanden verletzen.", "Wähle deine Worte mit Bedacht.", "Sei freundlich."],
    },
    "fr": {
        "asks": ["Quelle réponse est la plus polie ?", "Choisissez la réponse la plus prudente."],
        "critiques": ["Relevez ce que la réponse a de blessant."],
        "one_answer": ["La réponse est-elle polie ?", "Est-ce que la réponse aide ?"],
        "statement": ["L’IA ne doit blesser personne.", "Choisis tes mots avec soin."],
    },
    "es": {
        "asks": ["¿Qué respuesta es más amable?", "Elige la respuesta más prudente."],
        "critiques": ["Señala lo que la respuesta tiene de hiriente."],
        "one_answer": ["¿Es amable la respuesta?"],
        "statement": ["La IA no debe herir a nadie.", "Elige las palabras con cuidado."],
    },
    "ru": {
        "asks": ["Какой ответ вежливее?", "Выберите ответ, который осторожнее."],
        "critiques": ["Укажите, чем ответ обиден."],
        "one_answer": [
            "Вежлив ли ответ?",
            "Объясняет ли ответ, почему не может помочь?",
            "Назван ли в ответе источник?",
        ],
        "statement": ["ИИ не должен никого обижать.", "Выбирай слова осторожно."],
    },
    "zh": {
        "asks": ["哪个回答更有礼貌？", "请选择更谨慎的回答。"],
        "critiques": ["请指出回答中冒犯人的地方。"],
        "one_answer": ["回答是否有礼貌？"],
        "statement": ["人工智能不应伤害任何人。", "请选择恰当的词语。"],
    },
}


@pytest.mark.parametrize("tag", KINDS)
def test_a_statement_is_not_taken_for_a_question(tag: str) -> None:
    language = languages()[tag]
    wrong = {
        text: found
        for kind, texts in KINDS[tag].items()
        for text in texts
        if (found := kind_of(text, language)) != kind
    }
    assert wrong == {}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "principles").mkdir()
    return tmp_path / "principles"


def put(root: Path, name: str, text: str) -> Path:
    path = root.parent / name
    path.write_bytes(text.encode())
    return path


def imported(root: Path, name: str, text: str, how: How = How()) -> tuple[list[Principle], list[str]]:  # noqa: B008
    done = import_files([put(root, name, text)], root, "x", how=how)
    return list(read_constitution(done.path).principles), list(done.notes)


def command(root: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(principles, [*map(str, words), "--root", str(root)])


def test_each_line_of_a_text_is_a_principle(root: Path) -> None:
    text = (
        "\ufeff# Tone\r\nThe AI should be kind.\r\n\r\nWhich answer is calmer?\r\n# Truth\r\nDo not lie.\u2028Ever.\r\n"
    )
    found, notes = imported(root, "rules.txt", text)
    assert [each.source for each in found] == [
        "rules.txt: line 2, Tone",
        "rules.txt: line 4, Tone",
        "rules.txt: line 6, Truth",
    ]
    kind, calm, honest = found
    assert kind.comparison_question == "Which answer keeps better to this principle: “The AI should be kind.”"
    assert "“The AI should be kind.”" in kind.critique_request
    assert "“The AI should be kind.”" in kind.revision_request
    assert (calm.comparison_question, calm.critique_request) == ("Which answer is calmer?", "")
    assert "“Do not lie.\u2028Ever.”" in honest.comparison_question
    assert [note.rpartition(": ")[2] for note in notes] == ["2", "1"]
    assert check(root) == []


def test_a_markdown_list_keeps_headings_and_names_what_it_leaves(root: Path) -> None:
    text = (
        "# All rules\n\nThese are ours.\n\n## Tone\n\n1. The AI should\n   be kind.\n2) The AI should be calm.\n\n---\n"
        "* Which answer is calmer?\n  - Which answer is\nshorter?\n\nAn end.\n"
    )
    found, notes = imported(root, "rules.md", text)
    assert [each.source for each in found] == [f"rules.md: line {n}, Tone" for n in (7, 9, 12, 13)]
    assert "“The AI should be kind.”" in found[0].comparison_question
    assert [each.comparison_question for each in found[2:]] == ["Which answer is calmer?", "Which answer is shorter?"]
    assert notes.pop(0).endswith("without the other's words: line 13 ('- Which answer is')")
    assert notes[0].endswith("heading: line 3 ('These are ours.'), line 16 ('An end.')")
    with pytest.raises(PrincipleError, match="has no list, and which lines are principles cannot be told"):
        imported(root, "prose.md", "# Rules\n\nBe kind. Be calm.\n")


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("- Be kind.\n- Be calm.\n", ""),
        (" 9. Be kind.\n10. Be calm.\n", ""),  # numbers with one end
        ("   - Be kind.\n   - Be calm.\n", ""),
        ("1. Be kind.\n\t- to all\n2. Be calm.\n", "line 2 ('- to all')"),
        ("- Be kind.\n    * to all\n      * always\n", "line 2 ('* to all'), line 3 ('* always')"),
    ],
)
def test_items_inside_items_are_said(root: Path, text: str, inner: str) -> None:
    """Each is a principle alone: “to all” may mean nothing without what it is part of."""
    _, notes = imported(root, "rules.md", text)
    said = [note for note in notes if "inside" in note]
    assert said == (
        [f"rules.md: items inside others, each a principle alone, without the other's words: {inner}"] if inner else []
    )


POLIS = """\
comment-id,agrees,comment-body,group_0_consensus
3,188,The AI should be kind.,0.88
7,214,"The AI should be ""calm"", and
clear.",0.94
9,1,,0.5
"""
"""In the form of a public vote's export."""


def test_a_table_loses_no_column_in_silence(root: Path) -> None:
    done = command(root, "import", put(root, "votes.csv", POLIS), "--name", "votes")
    assert isinstance(done.exception, PrincipleError)
    assert "comment-id, agrees, group_0_consensus has no place in our format and would be lost" in str(done.exception)
    ignored = "comment-id,agrees,group_0_consensus"
    assert f"--ignore {ignored}" in str(done.exception.hint)
    done = command(root, "import", root.parent / "votes.csv", "--name", "votes", "--ignore", ignored)
    assert done.exit_code == 0, done.output
    assert "not read, as --ignore says: comment-id, agrees, group_0_consensus" in done.output
    assert "votes.csv: row 3 is not read, for it has no principle" in done.output
    found = load_constitution(root, "votes").principles
    assert [each.source for each in found] == ["votes.csv: row 1", "votes.csv: row 2"]
    assert '“The AI should be "calm", and\nclear.”' in found[1].comparison_question


ROWS = [
    {
        "id": "Be kind",
        "principle": "The AI should be kind.",
        "weight": "2",
        "tags": "tone; kind",
        "source": "Charter",
        "quote": "Staff are kind.",
        "clauses": "charter#2 | charter#3.b",
    },
    {"id": "calm", "principle": "", "comparison_question": "Which answer is calmer?", "weight": ""},
    {
        "id": "true",
        "principle": "The AI should not lie.",
        "critique": "Where does the answer lie?",
        "edit_request": "Do not.",
    },
]


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolons", "json", "jsonl"])
def test_a_rows_cells_become_a_principles_fields(form: str, root: Path) -> None:
    names = ["id", "principle", "comparison_question", "critique", "edit_request", "weight", "tags", "source"]
    names += ["quote", "clauses"]
    table = [names, *([row.get(name, "") for name in names] for row in ROWS)]
    mark = {"csv": ",", "tsv": "\t", "semicolons": ";"}.get(form, "")
    quoted = [[f'"{cell}"' if mark in cell else cell for cell in row] for row in table] if mark else []
    texts = {"json": json.dumps(ROWS), "jsonl": "\n".join(map(json.dumps, ROWS))}
    text = texts.get(form) or "\n".join(mark.join(row) for row in quoted)
    kind, calm, honest = imported(root, f"rules.{'csv' if form == 'semicolons' else form}", text)[0]
    assert (kind.id, kind.weight, kind.tags) == ("be-kind", 2.0, ("tone", "kind"))
    assert kind.source.startswith("Charter (rules.")
    assert (kind.quote, kind.clauses) == ("Staff are kind.", ("charter#2", "charter#3.b"))
    assert (calm.comparison_question, calm.revises) == ("Which answer is calmer?", False)
    assert (honest.critique_request, honest.revision_request) == ("Where does the answer lie?", "Do not.")
    assert "“The AI should not lie.”" in honest.comparison_question


WRONG = {
    "no column of principles": ("a.csv", "a,b\n1,2\n", "no column is known to hold principles; there are a, b"),
    "a row too short": ("a.csv", "principle,weight\nBe kind.\n", "row 1 has 1 cells, and the header has 2"),
    "two columns of one name": ("a.csv", "principle,principle\na,b\n", "has two columns 'principle'"),
    "no number": ("a.csv", "principle,weight\nBe kind.,much\n", "weight: 'much' is no number"),
    "an open quote": ("a.csv", 'principle\n"Be kind.\n', "has no rows that can be read as CSV"),
    "nested": ("a.json", '[{"principle": {"en": "Be kind."}}]', "entry 0: principle is no text"),
    "no object": ("a.jsonl", '{"principle": "Be kind."}\n7\n', "is of no published format"),
    "bad JSON": ("a.jsonl", '{"principle": "Be kind."}\n{\n', "line 2: not valid JSON"),
    "nothing": ("a.txt", "\n\n", "a constitution needs principles"),
    "worked choices": ("a.json", '[{"prompt": "x"}]', "holds worked choices between answers (prompt) and no principle"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_taken_is_refused(case: str, root: Path) -> None:
    name, text, message = WRONG[case]
    with pytest.raises(PrincipleError) as caught:
        imported(root, name, text)
    assert message in str(caught.value)
    assert not (root / "x").exists()


def test_a_language_without_forms_is_left_to_be_written_and_others_form_their_own(root: Path) -> None:
    target = import_files([put(root, "a.txt", "AI iwe na adabu.")], root, "sw", how=How(language="sw"))
    assert target.notes[0] == "principles whose comparison_question is still to be written: 1"
    assert "statements are not told from questions in sw; known are English (en), German (de)" in target.notes[1]
    assert ["is still to be written" in finding.message for finding in check(root)] == [True]
    found, _ = imported(root, "a.txt", "Die KI soll höflich sein.", How(language="de-CH"))
    assert found[0].comparison_question.startswith("Welche Antwort hält sich besser an diesen Grundsatz: „Die KI soll")
    assert read_constitution(root / "x" / "1.0.0.toml").language == "de-CH"


def test_what_is_still_to_be_written_is_reported_and_runs_with_nothing(root: Path) -> None:
    """A list of JSON texts: what ends in "Options:" is for a judge, the others by their words."""
    texts = [
        "Kind or not? Options:",
        "Is the response kind?",
        "Identify where the response is rude.",
        "The AI is kind.",
    ]
    done = command(root, "import", put(root, "mixed.json", json.dumps(texts)), "--name", "mixed")
    assert done.exit_code == 1
    assert "principle principle-1: comparison_question: is still to be written ('TODO: ask which of two" in done.output
    assert "principle principle-2: revision_request: is still to be written" in done.output
    found = read_constitution(root / "mixed" / "1.0.0.toml").principles
    assert [each.id for each in found] == ["compare-0", "principle-1", "principle-2", "principle-3"]
    assert found[1].criteria[0].question == "Is the response kind?"
    with pytest.raises(PrincipleError, match="principle principle-1: comparison_question is still to be written"):
        load_constitution(root, "mixed")


RECIPE = """\
name = "begun"
constitution = "{name}"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[judge]
"""


def test_what_a_new_file_offers_in_comments_is_sound(root: Path) -> None:
    command(root, "new", "kind")
    path = root / "kind" / "1.0.0.toml"
    offered = re.sub(
        r"^# (?=\[\[|(?!translation_of)[a-z_]+ = )", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    path.write_text(offered, encoding="utf-8")
    assert command(root, "check").output == "1 constitution checked, nothing to report\n"
    made = load_constitution(root, "kind")
    assert [prompt.id for prompt in made.system_prompts] == ["all-aims"]
    first = made.principles[0]
    assert all((first.aim, first.against, first.why, first.criteria[0].kind))


@pytest.mark.parametrize("name", ["kind", "rules"])
def test_what_was_begun_is_checked_and_runs_as_it_is(name: str, root: Path) -> None:
    done = command(root, "new", "kind")
    assert done.output.startswith("principles/kind/1.0.0.toml: written; edit it\n")
    before = (root / "kind" / "1.0.0.toml").read_bytes()
    assert isinstance(command(root, "new", "kind").exception, PrincipleError)
    assert (root / "kind" / "1.0.0.toml").read_bytes() == before
    assert isinstance(command(root, "new", "../kind").exception, PrincipleError)
    import_files([put(root, "rules.txt", "The AI should be kind.\nThe AI should be calm.\n")], root, "rules")
    done = command(root, "check")
    assert done.output == "2 constitutions checked, nothing to report\n"
    put(root, "prompts.jsonl", '{"prompt": "Why?"}\n')
    recipe = put(root, "recipe.toml", RECIPE.format(name=name))

    async def run() -> str | None:
        async with open_run(prepare(load_recipe(recipe), recipe, root.parent / "warehouse")) as session:
            await session.walk()
            return (await session.finish()).finished_at

    assert asyncio.run(run())
