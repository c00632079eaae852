"""`check` over real files: each malformed file gives the finding that names its fault, and sound ones give none."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitution.errors import PrincipleError
from constitution.principles import check, load_constitution, lock

SOUND = """\
name = "helpful"
version = "1.0.0"
description = "A small one."
# a comment

[[exemplars]]
prompt = "How do I boil an egg?"
response = "Put it in cold water."
critique = "The answer leaves out how long the egg has to boil."
revision = "Put it in boiling water for eight minutes."

[[principles]]
id = "no-preaching"
critique_request = "Does the answer to {{prompt}} moralise?"
revision_request = "Rewrite the answer without moralising."
comparison_question = "Which answer moralises less?"
weight = 1.5
tags = ["tone"]

[[principles.exemplars]]
messages = [
  { role = "system", content = "You are a cook." },
  { role = "user", content = "Hello." },
  { role = "assistant", content = "Hi!" },
  { role = "user", content = "Is butter fine for frying?" },
]
response = "Yes, at low heat."
critique_request = "Does the answer lecture?"
critique = "The answer is fine: it is short, and it lectures nobody."
revision_request = "Take the lecture out."
revision = "Yes, at low heat."

[[principles.examples]]
prompt = "What is a good red wine?"
better = "A Rioja, for instance."
worse = "Alcohol is bad for you."

[[principles]]
id = "names-sources"
critique_request = "Which claims of {{response}} lack a source?"
revision_request = "Give a source for every claim."
"""

EXEMPLAR = "The answer leaves out how long the egg has to boil."
QUESTION = "Which answer moralises less?"
REQUEST = "Does the answer to {{prompt}} moralise?"

# what is wrong → (text to replace, replacement, principle that is named, part of the message)
CASES: dict[str, tuple[str, str, str | None, str]] = {
    "broken TOML": ("[[exemplars]]", "[[exemplars]", None, "not valid TOML"),
    "unknown top field": (
        "description =",
        "descripton =",
        None,
        "descripton: unknown field; did you mean description?",
    ),
    "unknown field, nothing near": ("weight = 1.5", "zzz = 1.5", "no-preaching", "zzz: unknown field; there are id, "),
    "unknown principle field": (
        'critique_request = "Does the answer to',
        'critque_request = "Does the answer to',
        "no-preaching",
        "critque_request: unknown field; did you mean critique_request?",
    ),
    "unknown exemplar field": (
        'response = "Put',
        'reponse = "Put',
        None,
        "exemplars #1, reponse: unknown field; did you mean response?",
    ),
    "no description": ('description = "A small one."\n', "", None, "description: missing field"),
    "empty description": ("A small one.", "   ", None, "description: is empty"),
    "no id": ('id = "names-sources"\n', "", "#2", "id: missing field"),
    "id with a space": ("names-sources", "names sources", "names sources", "lower-case letters, digits and hyphens"),
    "the same id twice": ("names-sources", "no-preaching", "no-preaching", "the id is there 2 times"),
    "no revision request": (
        'revision_request = "Give a source for every claim."\n',
        "",
        "names-sources",
        "revision_request: missing field",
    ),
    "neither use": (
        SOUND[SOUND.index('critique_request = "Which') :],
        "",
        "names-sources",
        "give critique_request and revision_request, comparison_question, or all three",
    ),
    "blank comparison question": (QUESTION, " \\n ", "no-preaching", "comparison_question: is empty"),
    "empty critique": (EXEMPLAR, "", None, "exemplars #1, critique: is empty"),
    "weight in quotes": (
        "weight = 1.5",
        'weight = "1.5"',
        "no-preaching",
        'weight: expected a number, found the text "1.5"',
    ),
    "weight of nothing": ("weight = 1.5", "weight = 0", "no-preaching", "weight: input should be greater than 0"),
    "weight without end": ("weight = 1.5", "weight = inf", "no-preaching", "weight: input should be a finite number"),
    "tags as text": (
        'tags = ["tone"]',
        'tags = "tone"',
        "no-preaching",
        'tags: expected a list, found the text "tone"',
    ),
    "a tag twice": ('["tone"]', '["tone", "tone"]', "no-preaching", "tags: the same tag is there twice"),
    **{
        f"a clause {what}": ('["tone"]', f'["tone"]\nclauses = ["{clause}"]', "no-preaching", message)
        for what, clause, message in (
            ("without its document", "3.2", "clauses #1: '3.2' names no clause; write <document>#<clause>, such as"),
            ("without its place", "charter#", "clauses #1: 'charter#' names no clause"),
            ("with blanks", "the charter#3", "clauses #1: 'the charter#3' names no clause"),
            ("with a line end", "charter#3\\n#4", "clauses #1: 'charter#3\\n#4' names no clause"),
            ("twice", 'charter#3", "charter#3', "clauses: the same clause is there twice"),
        )
    },
    "a quote that is still to be written": (
        '["tone"]',
        '["tone"]\nquote = "TODO: from the charter"',
        "no-preaching",
        "quote: is still to be written",
    ),
    "prompt and messages": (
        'messages = [\n  { role = "system"',
        'prompt = "Hi"\nmessages = [\n  { role = "system"',
        "no-preaching",
        "exemplars #1: give either prompt (one user turn) or messages",
    ),
    "ends with the assistant": (
        '  { role = "user", content = "Is butter fine for frying?" },\n',
        "",
        "no-preaching",
        "messages must end with a user turn",
    ),
    "two user turns running": (
        '  { role = "assistant", content = "Hi!" },\n',
        "",
        "no-preaching",
        "messages must alternate user and assistant",
    ),
    "a role that does not exist": (
        'role = "assistant"',
        'role = "bot"',
        "no-preaching",
        'role: expected system, user or assistant, found the text "bot"',
    ),
    "half of an exemplar's requests": (
        'revision_request = "Take the lecture out."\n',
        "",
        "no-preaching",
        "exemplars #1: critique_request and revision_request come together",
    ),
    "critique is the response": (EXEMPLAR, "Put it in cold water.", None, "critique: is the response over again"),
    "critique is its request": (
        "The answer is fine: it is short, and it lectures nobody.",
        "Does the answer lecture?",
        "no-preaching",
        "critique: repeats the request",
    ),
    "critique is the principle's request": (
        EXEMPLAR,
        "Give a source for every claim.",
        "names-sources",
        "exemplars #1, critique: repeats the request",
    ),
    "critique of two words": (EXEMPLAR, "Too short.", None, "critique: 'Too short.' is too short for a critique"),
    "critique refused": (EXEMPLAR, "I'm sorry, but I can't help with that.", None, "critique: refuses to critique"),
    "scaffolding in a critique": (EXEMPLAR, f"CritiqueRequest: find faults. {EXEMPLAR}", None, "leftover scaffolding"),
    "chat token in a revision": ("for eight minutes.", "for eight minutes.<|im_end|>", None, "('<|im_end|>')"),
    "placeholder in a critique": (EXEMPLAR, f"{EXEMPLAR} See {{{{response}}}}.", None, "filled in only in"),
    "placeholder that does not exist": (
        "{{prompt}}",
        "{{question}}",
        "no-preaching",
        "critique_request: the placeholder {{question}} does not exist; there are {{prompt}} and {{response}}",
    ),
    "placeholder misspelt": ("{{response}}", "{{responce}}", "names-sources", "did you mean {{response}}?"),
    "placeholder in single braces": ("{{prompt}}", "{prompt}", "no-preaching", "did you mean {{prompt}}?"),
    "placeholder left open": ("{{prompt}}", "{{prompt", "no-preaching", "{{ is left open"),
    "placeholder in the question": (QUESTION, "Which suits {{prompt}} better?", "no-preaching", "filled in only in"),
    "the question ends in scaffolding": (QUESTION, f"{QUESTION} Options:", "no-preaching", "scaffolding ('Options:')"),
    "an order in the question": (
        QUESTION,
        "Is the first answer less preachy?",
        "no-preaching",
        "comparison_question: presupposes an order ('the first answer')",
    ),
    "better is worse": (
        "A Rioja, for instance.",
        "alcohol is bad for you",
        "no-preaching",
        "better and worse are the same",
    ),
    "the same request twice": (
        "Rewrite the answer without moralising.",
        REQUEST,
        "no-preaching",
        "revision_request: is the critique_request over again",
    ),
    "version is not semver": ('version = "1.0.0"', 'version = "1.0"', None, "'1.0' is not a semantic version"),
    "version is not the file's": (
        'version = "1.0.0"',
        'version = "1.2.0"',
        None,
        "'1.2.0' is not the file's name, 1.0.0",
    ),
    "name is not the folder's": ('name = "helpful"', 'name = "kind"', None, "'kind' is not the folder's name, helpful"),
}


def write(root: Path, text: str, name: str = "helpful", version: str = "1.0.0") -> Path:
    path = root / name / f"{version}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "principles"


def test_a_sound_file_has_no_findings_and_loads(root: Path) -> None:
    write(root, SOUND)
    assert check(root) == []
    constitution = load_constitution(root, "helpful@1.0.0")
    preaching, sources = constitution.principles
    assert (preaching.weight, preaching.tags, sources.weight) == (1.5, ("tone",), 1.0)
    assert preaching.compares
    assert preaching.revises
    assert not sources.compares
    assert [message.role for message in preaching.exemplars[0].messages] == ["system", "user", "assistant", "user"]
    assert constitution.exemplars_for(sources)[0].critique == EXEMPLAR


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_named_with_file_and_principle(case: str, root: Path) -> None:
    old, new, principle, message = CASES[case]
    assert old in SOUND, "the case does not apply"
    write(root, SOUND.replace(old, new, 1))
    findings = check(root)
    hits = [finding for finding in findings if message in finding.message]
    assert hits, [str(finding) for finding in findings]
    assert hits[0].principle == principle
    assert str(hits[0]).startswith(
        "principles/helpful/1.0.0.toml: " + (f"principle {principle}: " if principle else "")
    )
    others = {finding.message for finding in findings} - {finding.message for finding in hits}
    assert all("missing field" in other for other in others), others  # a renamed field is also missing; no other noise


def test_all_faults_are_found_not_just_the_first(root: Path) -> None:
    text = SOUND
    for case in ("no description", "weight in quotes", "placeholder misspelt", "critique of two words"):
        old, new, _, _ = CASES[case]
        text = text.replace(old, new, 1)
    write(root, text)
    write(root, "nonsense", "other")
    messages = "\n".join(str(finding) for finding in check(root))
    for part in (
        "description: missing",
        "weight: expected",
        "{{responce}}",
        "too short",
        "other/1.0.0.toml: not valid",
    ):
        assert part in messages


def test_invalid_toml_names_the_line(root: Path) -> None:
    write(root, SOUND.replace("weight = 1.5", "weight = = 1.5"))
    (finding,) = check(root)
    line = SOUND.splitlines().index("weight = 1.5") + 1
    assert f"line {line}" in finding.message


def test_files_that_are_no_text(root: Path) -> None:
    write(root, "").write_bytes(b'name = "\xff"')
    (finding,) = check(root)
    assert "is not UTF-8 text (byte 8)" in finding.message
    write(root, "a = " + "[" * 5000)
    (finding,) = check(root)
    assert "not valid TOML" in finding.message


@pytest.mark.parametrize("raw", ["principles = 3", "principles = [1]", "principles = []", "exemplars = 'x'", ""])
def test_wrong_shapes_are_findings_not_crashes(raw: str, root: Path) -> None:
    write(root, f'name = "helpful"\nversion = "1.0.0"\ndescription = "x"\n{raw}\n')
    assert check(root)
    with pytest.raises(PrincipleError, match=r"principles/helpful/1\.0\.0\.toml"):
        load_constitution(root, "helpful")


@pytest.mark.parametrize("old", ["{{prompt}}", "Take the lecture out."])
def test_a_file_with_a_placeholder_that_does_not_exist_is_not_loaded(old: str, root: Path) -> None:
    write(root, SOUND.replace(old, "{{question}}"))
    assert len(check(root)) == 1
    with pytest.raises(PrincipleError, match=r"the placeholder \{\{question\}\} does not exist"):
        load_constitution(root, "helpful")


def test_a_principle_twice_under_two_names(root: Path) -> None:
    second = SOUND[SOUND.index('[[principles]]\nid = "names-sources"') :].replace("names-sources", "again")
    write(root, SOUND + "\n" + second)
    (finding,) = check(root)
    assert finding.principle == "again"
    assert "the same texts as principle names-sources" in finding.message
    write(
        root, SOUND + "\n" + second.replace("claim.", "claim. Do so with care and tell how old each of the sources is.")
    )
    assert check(root) == []


def test_the_same_exemplar_twice(root: Path) -> None:
    start, end = SOUND.index("[[exemplars]]"), SOUND.index("[[principles]]")
    write(root, SOUND[:end] + SOUND[start:end] + SOUND[end:])
    (finding,) = check(root)
    assert "exemplars #2 is exemplars #1 over again" in finding.message


def test_uses_that_do_not_fit(root: Path) -> None:
    write(root, SOUND.replace('comparison_question = "Which answer moralises less?"\n', ""))
    (finding,) = check(root)
    assert "examples are put to the judge, and this principle has no comparison_question" in finding.message


def test_files_in_the_wrong_place(root: Path) -> None:
    write(root, SOUND)
    (root / "stray.toml").write_text(SOUND)
    write(root, SOUND, version="draft")
    messages = [str(finding) for finding in check(root)]
    assert any(message.startswith("principles/stray.toml: lies outside") for message in messages)
    assert any("draft.toml: the file's name is not a semantic version" in message for message in messages)
    assert load_constitution(root, "helpful").version == "1.0.0"


def test_an_empty_folder_is_a_finding_and_no_folder_an_error(root: Path) -> None:
    with pytest.raises(PrincipleError, match="there is no such folder"):
        check(root)
    root.mkdir()
    (finding,) = check(root)
    assert "there is no constitution here" in finding.message


def test_check_and_lock_agree(root: Path) -> None:
    write(root, SOUND.replace("A small one.", ""))
    added, findings = lock(root)
    assert not added
    assert findings == check(root)
    assert not (root / "principles.lock").exists()
