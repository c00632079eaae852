"""Conversation trees as OpenAssistant has them: every turn of a user is a prompt, its replies are answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from read_prompts import asked, of, parquet

from constitution import load_recipe, query, run
from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Prompt, SkippedRow

ROOT = Path(__file__).parents[1]


def node(id: str, text: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    role = "prompter" if id.count(".") % 2 == 0 else "assistant"
    return {"message_id": id, "user_id": "u", "text": text, "role": role, "lang": "en", "deleted": False, **more,
            "replies": list(replies)}  # fmt: skip


TREE = node(
    *("1", "Why?"),
    node("1.1", "Because.", node("1.1.1", "And then?", node("1.1.1.1", "Then not.", rank=None)), rank=1),
    node("1.2", "So.", node("1.2.1", "Oh?"), node("1.2.2", "Really?", node("1.2.2.1", "Yes.", rank=1),
                                                 node("1.2.2.2", "No.", rank=0), lang="de"), rank=0),
)  # fmt: skip
ROW = {"message_tree_id": "1", "tree_state": "ready_for_export", "prompt": TREE}
SETTINGS: dict[str, Any] = {
    "trees": True,
    "answers": ["replies[].text"],
    "gold_lowest": ["replies[].rank"],
}
WANTED = {
    ("Why?",): (("Because.", "So."), 1),
    ("Why?", "Because.", "And then?"): (("Then not.",), None),
    ("Why?", "So.", "Oh?"): ((), None),
    ("Why?", "So.", "Really?"): (("Yes.", "No."), 1),
}
"""Read off the tree by eye."""


def flat(tree: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    own = {key: value for key, value in tree.items() if key != "replies"}
    rows = [{**own, "parent_id": parent, "message_tree_id": "1", "rank": own.get("rank")}]
    return rows + [row for reply in tree["replies"] for row in flat(reply, tree["message_id"])]


def table(prompts: list[Prompt]) -> dict[tuple[str, ...], Any]:
    assert len({prompt.source for prompt in prompts}) == len(prompts)
    return {tuple(turn.content for turn in each.messages): (each.answers, each.gold) for each in prompts}


def test_a_tree_a_row(tmp_path: Path) -> None:
    found = of(tmp_path, ROW, **SETTINGS)
    assert table(found) == WANTED
    assert [turn.role for turn in found[1].messages] == ["user", "assistant", "user"]
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    again = list(read_prompts(PromptsSection(path="p.jsonl.gz", **SETTINGS), tmp_path))
    assert table(again) == WANTED
    assert table(of(tmp_path, ROW, trees=True)) == dict.fromkeys(WANTED, ((), None))


def test_a_turn_a_row_in_whatever_order_and_form(tmp_path: Path) -> None:
    rows = flat(TREE)
    assert table(of(tmp_path, *rows, **SETTINGS)) == WANTED
    backwards = table(of(tmp_path, *rows[::-1], **SETTINGS))
    assert backwards.keys() == WANTED.keys()
    assert backwards["Why?",] == (("So.", "Because."), 0)
    assert table(parquet(tmp_path, pa.Table.from_pylist(rows), **SETTINGS)) == WANTED
    assert table(asked(tmp_path, "SELECT * FROM 'p.parquet'", **SETTINGS)) == WANTED
    german = "SELECT * FROM 'p.parquet' WHERE lang = 'de'"
    with pytest.raises(PromptError, match=r"parent_id '1.2' is no turn of the file"):
        asked(tmp_path, german, **SETTINGS)
    [only] = asked(tmp_path, f"SELECT * REPLACE (NULL AS parent_id) FROM ({german})", **SETTINGS)
    assert only.answers == ()


def test_keys_beside_a_turn(tmp_path: Path) -> None:
    row = {**ROW, "prompt": {**TREE, "tools": ["t"]}}
    with pytest.raises(PromptError, match="prompt 1: also has tools"):
        of(tmp_path, row, **SETTINGS)
    assert len(of(tmp_path, row, **SETTINGS, ignore=["tools"])) == 4
    system = {**ROW, "prompt": {**TREE, "system": "Be kind."}}
    first, *others = of(tmp_path, system, **SETTINGS, system="system")
    assert (first.messages[0].content, {each.messages[0].content for each in others}) == ("Be kind.", {"Why?"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"deleted": True}, "marked as deleted"),
        ({"role": "system"}, "has the role 'system'"),
        ({"text": None}, "or no text"),
        ({"replies": "x"}, "not a list of objects"),
        ({"replies": ["x"]}, "not a list of objects"),
    ],
)
def test_trees_that_cannot_be_read(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        of(tmp_path, {**ROW, "prompt": {**TREE, **changes}}, **SETTINGS)
    if "deleted" in changes:
        assert len(of(tmp_path, {**ROW, "prompt": {**TREE, **changes}}, **SETTINGS, ignore=["deleted"])) == 4


def test_turns_that_are_no_trees(tmp_path: Path) -> None:
    one, two = ({"message_id": n, "parent_id": 3 - n, "role": "prompter", "text": "a"} for n in (1, 2))
    with pytest.raises(PromptError, match="comes before itself"):
        of(tmp_path, one, two, **SETTINGS)
    with pytest.raises(PromptError, match="message_id 1 is twice"):
        of(tmp_path, one, one, **SETTINGS)
    with pytest.raises(PromptError, match="no 'message_id'"):
        of(tmp_path, {"prompt": "q"}, **SETTINGS)
    with pytest.raises(PromptError, match="no prompts"):
        of(tmp_path, **SETTINGS)


def test_turns_without_their_parents_can_be_skipped(tmp_path: Path) -> None:
    rows = [row for row in flat(TREE) if row["message_id"] != "1.1"]
    skipped: list[SkippedRow] = []
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    section = PromptsSection(path="p.jsonl", on_bad_row="skip", **SETTINGS)
    found = list(read_prompts(section, tmp_path, skip=skipped.append))
    assert table(found) == {path: said for path, said in WANTED.items() if "Because." not in path} | {
        ("Why?",): (("So.",), None)
    }
    assert [row.source for row in skipped] == ["p.jsonl#2"]
    assert "parent_id '1.1' is no turn of the file" in skipped[0].reason


def test_a_tree_that_is_not_said_to_be_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError) as caught:
        of(tmp_path, ROW)
    assert "prompts.trees = true" in str(caught.value.hint)
    with pytest.raises(PromptError) as caught:
        of(tmp_path, *flat(TREE), field="text")
    assert "prompts.trees = true" in str(caught.value.hint)


def test_deep_trees(tmp_path: Path) -> None:
    roles = ("prompter", "assistant")
    rows = [
        {"message_id": n, "parent_id": n - 1 if n else None, "text": f"{n}", "role": roles[n % 2]} for n in range(2001)
    ]
    [found] = of(tmp_path, *rows[::-1], trees=True, limit=1)
    assert len(found.messages) == 2001
    with pytest.raises(PromptError, match=r"no row has the key 'replies\[\].rank'"):
        of(tmp_path, *rows[:9], **SETTINGS)


def test_a_run_judges_the_replies_of_a_tree_and_its_ranks_are_gold(tmp_path: Path) -> None:
    third = node("1.3", "Well, well.", rank=2)
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": {**TREE, "replies": [*TREE["replies"], third]}}))
    settings = ["trees=true", 'answers=["replies[].text"]', 'gold_lowest=["replies[].rank"]']
    prompts = [f"prompts.{each}" for each in (f"path={tmp_path / 'p.jsonl'}", *settings)]
    recipe = load_recipe(ROOT / "recipes" / "fake.toml", [*prompts, "revise.rounds=0", 'judge.pairs=["given"]'])
    run(recipe, tmp_path / "w")
    pairs = query(
        tmp_path / "w",
        "SELECT a.text AS a, b.text AS b, g.text AS gold FROM preferences AS p JOIN responses AS a ON a.id = p.a_id "
        "JOIN responses AS b ON b.id = p.b_id LEFT JOIN responses AS g ON g.id = p.gold_id WHERE p.kind = 'given' "
        "ORDER BY a, b",
    )
    assert [tuple(pair.values()) for pair in pairs] == [
        ("Because.", "So.", "So."),
        ("Because.", "Well, well.", None),
        ("So.", "Well, well.", "So."),
        ("Yes.", "No.", "No."),
    ]
