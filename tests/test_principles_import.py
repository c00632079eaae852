"""Published formats become constitutions: scaffolding gone, nothing lost, and `check` passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from constitution.cli.principles import principles
from constitution.errors import PrincipleError
from constitution.principles import check, import_files, load_constitution
from constitution.records import Message

DATA = Path(__file__).parent.parent / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no published files beside the repository")

CRITIQUES: dict[str, Any] = {
    "kind0": {
        "prompt": ["\n\nCritiqueRequest: Say where the answer is unkind.\n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Make it kind.\n\nRevision:",
    },
    "Kind 1": {
        "prompt": [
            "\n\nCritiqueRequest: Name each lie.\n\nCritique:",
            "\n\nCritiqueRequest: Which claims have no ground?\n\nCritique:",
        ],
        "edit_request": "\n\nRevisionRequest: Keep what is true.\n\nRevision:",
    },
}
COMPARISONS = ["\nWhich answer is kinder? Options:", '\nWhich answer: the "true" one\\the other? Say why.\n\nOptions:']
SHOT = (
    "\n\nHuman: Hello.\n\nAssistant: Hi.\n\nHuman: Is salt a metal?\n\nAssistant: Yes.\n\nIt is."
    "\n\nCritiqueRequest: Is it true?\n\nCritique: Salt is a compound and no metal."
    "\n\nRevisionRequest: Keep what is true.\n\nRevision: No, it is a compound."
)
MORE = (
    "\n\nCritiqueRequest: Is it complete?\n\nCritique: It does not say of which elements."
    "\n\nRevisionRequest: Complete it.\n\nRevision: No: sodium chloride is a compound.\n\nHuman:"
)
CHATS: dict[str, Any] = {
    "constitutions": [{"critic": "Is it kind to all?", "revision": "Make it kind."}],
    "system_chat": [
        [
            {"role": "user", "content": "Hm?"},
            {"role": "assistant", "content": "Go away."},
            {"role": "user", "content": "Is it kind to all?"},
            {"role": "assistant", "content": "It sends the person away."},
            {"role": "user", "content": "Make it kind."},
            {"role": "assistant", "content": "What can I do for you?"},
        ]
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "principles"


def put(root: Path, name: str, data: Any) -> Path:
    path = root.parent / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def run(root: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(principles, ["import", *map(str, words), "--root", str(root)])


def test_critiques_and_comparisons_stay_apart_and_whole(root: Path) -> None:
    files = (put(root, "critiques.json", CRITIQUES), put(root, "comparisons.json", COMPARISONS))
    done = run(root, *files, "--name", "both", "--license", "MIT", "--source", "a paper")
    assert done.exit_code == 0, done.output
    assert done.output == "principles/both/1.0.0.toml: 5 principles, 0 shared exemplars\n"
    assert check(root) == []
    found = load_constitution(root, "both")
    assert (found.license, found.source) == ("MIT", "a paper")
    assert [principle.id for principle in found.principles] == [
        "kind0",
        "kind-1-1",
        "kind-1-2",
        "compare-0",
        "compare-1",
    ]
    assert [principle.weight for principle in found.principles] == [1.0, 0.5, 0.5, 1.0, 1.0]
    assert found.principles[0].critique_request == "Say where the answer is unkind."
    assert found.principles[0].revision_request == "Make it kind."
    assert [p.critique_request for p in found.principles[1:3]] == ["Name each lie.", "Which claims have no ground?"]
    assert found.principles[4].comparison_question == 'Which answer: the "true" one\\the other? Say why.'
    assert found.principles[1].source == "critiques.json: Kind 1"
    assert not any(principle.compares for principle in found.principles[:3])


def test_transcripts_become_exemplars_one_a_round(root: Path) -> None:
    import_files([put(root, "c.json", CRITIQUES), put(root, "shots.json", [SHOT + MORE])], root, "shots")
    assert check(root) == []
    one, two = load_constitution(root, "shots").exemplars
    assert one.messages == (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "Is salt a metal?"))
    assert one.response == "Yes.\n\nIt is."
    assert (one.critique_request, one.critique) == ("Is it true?", "Salt is a compound and no metal.")
    assert (one.revision_request, one.revision) == ("Keep what is true.", "No, it is a compound.")
    assert two.messages == one.messages
    assert (two.response, two.revision) == (one.revision, "No: sodium chloride is a compound.")


def test_chats_become_exemplars(root: Path) -> None:
    import_files([put(root, "chats.json", CHATS)], root, "chats")
    assert check(root) == []
    found = load_constitution(root, "chats")
    assert (found.principles[0].critique_request, found.principles[0].revision_request) == (
        "Is it kind to all?",
        "Make it kind.",
    )
    (exemplar,) = found.exemplars
    assert exemplar.messages == (Message("user", "Hm?"),)
    assert (exemplar.response, exemplar.revision) == ("Go away.", "What can I do for you?")
    assert (exemplar.critique_request, exemplar.critique) == ("Is it kind to all?", "It sends the person away.")


def test_nothing_is_overwritten(root: Path) -> None:
    path = put(root, "c.json", CRITIQUES)
    target = import_files([path], root, "c").path
    before = target.read_bytes()
    with pytest.raises(PrincipleError, match="is there already, and nothing is overwritten"):
        import_files([put(root, "d.json", COMPARISONS)], root, "c")
    assert target.read_bytes() == before
    assert import_files([path], root, "c", "1.0.1").path.name == "1.0.1.toml"


def test_a_result_with_findings_is_written_and_reported(root: Path) -> None:
    done = run(root, put(root, "c.json", ["Is the first answer kinder? Options:"]), "--name", "ordered")
    assert done.exit_code == 1
    assert "principle compare-0: comparison_question: presupposes an order" in done.output
    assert (root / "ordered" / "1.0.0.toml").exists()


def test_equal_ids_of_two_files_are_numbered(root: Path) -> None:
    files = [put(root, "a.json", COMPARISONS), put(root, "b.json", ["Which answer is more useful to a beginner?"])]
    import_files(files, root, "c")
    assert [p.id for p in load_constitution(root, "c").principles] == ["compare-0", "compare-1", "compare-0-2"]


_LAST_FOUR = CHATS["system_chat"][0][-4:]

WRONG: dict[str, tuple[Any, str]] = {
    "no list": ({"a": 1}, "is of no published format"),
    "an empty list": ([], "is of no published format"),
    "worked choices": ([{"prompt": "x", "corrects": ["a"], "incorrects": ["b"]}], "and no principle"),
    "a list of numbers": ([1, 2], "is of no published format"),
    "an entry with more in it": (
        {"a": {**CRITIQUES["kind0"], "note": "x"}},
        "a: note has no place in our format and would be lost",
    ),
    "no critique": ({"a": {"prompt": [], "edit_request": "x"}}, "prompt must be a text or a list of texts"),
    "an empty critique": ({"a": {"prompt": [" "], "edit_request": "x"}}, "prompt must be a text"),
    "an empty question": (["Which is kinder? Options:", " Options:"], "entry 1: an empty text"),
    "more beside the constitutions": ({**CHATS, "extra": 1}, "the file: extra has no place"),
    "a chat that is too short": (
        {**CHATS, "system_chat": [CHATS["system_chat"][0][:4]]},
        "system_chat[0]: expected user",
    ),
    "a chat with a hole": (
        {**CHATS, "system_chat": [[{**turn, "content": ""} for turn in CHATS["system_chat"][0]]]},
        "system_chat[0]: an empty text",
    ),
    "a chat with null in it": (
        {**CHATS, "system_chat": [[{**turn, "content": None} for turn in CHATS["system_chat"][0]]]},
        "system_chat[0]: a message's content is no text",
    ),
    "a chat with a late system turn": (
        {**CHATS, "system_chat": [[*CHATS["system_chat"][0][:2], {"role": "system", "content": "s"}, *_LAST_FOUR]]},
        "system_chat[0]: expected user",
    ),
    "half a round": ([SHOT + "\n\nCritiqueRequest: And now?"], "entry 0: expected Human, Assistant"),
    "text before the transcript": (["Note." + SHOT], "entry 0: expected Human, Assistant"),
    "a transcript that goes on": ([SHOT + "\n\nHuman: Thanks."], "entry 0: expected Human, Assistant"),
    "exemplars only": ([SHOT], "exemplars only, and a constitution needs principles"),
    "half a character": (["Which is \ud800 kinder?"], "half a surrogate pair"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_kept_whole_is_refused(case: str, root: Path) -> None:
    data, message = WRONG[case]
    with pytest.raises(PrincipleError) as caught:
        import_files([put(root, "wrong.json", data)], root, "wrong")
    assert message in str(caught.value)
    assert "wrong.json" in str(caught.value)
    assert not root.exists()


def test_what_could_not_be_loaded_is_not_written(root: Path) -> None:
    files = [put(root, "q.json", COMPARISONS), put(root, "shots.json", ["\n\nHuman: One." + SHOT])]
    with pytest.raises(PrincipleError, match=r"shots\.json: exemplars #1: messages must alternate"):
        import_files(files, root, "wrong")
    assert not root.exists()


def test_wrong_names_and_files(root: Path) -> None:
    path = put(root, "c.json", CRITIQUES)
    for name, version, message in (("A b", "1.0.0", "lower-case"), ("../a", "1.0.0", "lower"), ("a", "1", "semantic")):
        with pytest.raises(PrincipleError, match=message):
            import_files([path], root, name, version)
    path.write_text("{")
    with pytest.raises(PrincipleError, match="not valid JSON"):
        import_files([path], root, "a")
    with pytest.raises(PrincipleError, match="there is no such file"):
        import_files([root / "none.json"], root, "a")


@needs_data
def test_the_published_lists_arrive_whole(root: Path) -> None:
    files = [DATA / "cai-critique-revision.json", DATA / "cai-comparison.json"]
    assert run(root, *files, "--name", "cai").exit_code == 0
    assert check(root) == []
    found = load_constitution(root, "cai").principles
    pairs = json.loads(files[0].read_bytes())
    assert [p.id for p in found[:16]] == list(pairs)
    for principle, entry in zip(found[:16], pairs.values(), strict=True):
        assert f"\n\nCritiqueRequest: {principle.critique_request}\n\nCritique:" == entry["prompt"][0]
        assert f"\n\nRevisionRequest: {principle.revision_request}\n\nRevision:" == entry["edit_request"]
    questions = json.loads(files[1].read_bytes())
    assert [f"\n{p.comparison_question} Options:" for p in found[16:]] == questions


@needs_data
def test_the_published_chats_arrive_whole(root: Path) -> None:
    data = json.loads((DATA / "swarm-constitution.json").read_bytes())
    import_files([DATA / "swarm-constitution.json"], root, "swarm")
    assert check(root) == []
    found = load_constitution(root, "swarm")
    assert [(p.critique_request, p.revision_request) for p in found.principles] == [
        (entry["critic"], entry["revision"]) for entry in data["constitutions"]
    ]
    for exemplar, chat in zip(found.exemplars, data["system_chat"], strict=True):
        said = [message.content for message in exemplar.messages] + [exemplar.response, exemplar.critique_request]
        said += [exemplar.critique, exemplar.revision_request, exemplar.revision]
        assert said == [turn["content"] for turn in chat]
