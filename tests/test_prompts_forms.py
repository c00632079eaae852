"""Files told apart by what is in them: JSON, CSV, TSV, packed ones, several of them; whatever their names are."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from read_prompts import texts

from constitution.errors import ConstitutionError, PromptError
from constitution.overrides import apply
from constitution.pipeline.path_policy import check_places
from constitution.prompts import read_prompts, row
from constitution.prompts.texts import user_texts
from constitution.recipe import PromptsSection, load_recipe
from constitution.records import Prompt

ASKED = ["Hello there?", 'Say "hi",\nthen; go\t|', "Grüße 😀"]
ROWS = [{"prompt": text, "id": number} for number, text in enumerate(ASKED, 1)]


def read(folder: Path, name: str, data: str | bytes, **settings: Any) -> list[Prompt]:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_prompts(PromptsSection(path=name, **settings), folder))


def table(delimiter: str, end: str = "\r\n") -> str:
    quoted = [
        [f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in (str(row["prompt"]), str(row["id"]))] for row in ROWS
    ]
    return end.join(delimiter.join(cells) for cells in (["prompt", "id"], *quoted)) + end


LINES = "\n".join(map(json.dumps, ROWS))
COLUMNS: dict[str, list[Any]] = {"prompt": ASKED, "id": [1, 2, 3]}
INDEXED = {name: {str(place): value for place, value in enumerate(column)} for name, column in COLUMNS.items()}
PRETTY = "\n".join(json.dumps(row, indent=2) for row in ROWS)
FORMS: dict[str, str] = {
    "lines": LINES,
    "array": json.dumps(ROWS),
    "array, pretty": json.dumps(ROWS, indent=4, ensure_ascii=False),
    "array, a line each": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "objects one after the other": PRETTY,
    "columns": json.dumps(COLUMNS),
    "columns by index, as pandas writes them": json.dumps(INDEXED, indent=1),
    "lines after blank ones": "\n \n" + LINES,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["p.json", "p.txt", "p"])
def test_json_of_every_form(tmp_path: Path, form: str, mark: str, name: str) -> None:
    found = read(tmp_path, name, mark + FORMS[form])
    assert texts(found) == ASKED
    assert len({prompt.source for prompt in found}) == len(ROWS)


def test_one_object_is_a_row_or_columns(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "p.json", '{"prompt": "a"}')) == ["a"]
    assert texts(read(tmp_path, "p.jsonl", '{"prompt": [{"role": "user", "content": "a"}]}')) == ["a"]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    [one] = read(tmp_path, "p.json", json.dumps({"messages": turns}, indent=1))
    assert len(one.messages) == 3
    several = read(tmp_path, "p.json", json.dumps({"messages": [turns, turns[:1]]}, indent=1))
    assert [len(prompt.messages) for prompt in several] == [3, 1]
    with pytest.raises(PromptError, match="different lengths: prompt 1, id 2"):
        read(tmp_path, "p.json", '{"prompt": ["a"],\n "id": [1, 2]}')


def test_rows_below_a_key(tmp_path: Path) -> None:
    data = json.dumps({"version": "1.1", "data": ROWS})
    assert texts(read(tmp_path, "p.json", data, rows="data")) == ASKED
    with pytest.raises(PromptError, match="one object, with the keys version, data") as caught:
        read(tmp_path, "p.json", data)
    assert caught.value.hint == 'set prompts.rows = "data"'
    with pytest.raises(PromptError, match="one object, with the keys data"):
        read(tmp_path, "p.json", json.dumps({"data": ROWS}))
    with pytest.raises(PromptError, match="'rows' is not a list of rows"):
        read(tmp_path, "p.json", data, rows="rows")
    with pytest.raises(PromptError, match="beside data has system"):
        read(tmp_path, "p.json", json.dumps({"system": "Be kind.", "data": ROWS}), rows="data")
    assert texts(read(tmp_path, "p.jsonl", LINES, rows="data")) == ASKED, "these are rows themselves"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables(tmp_path: Path, delimiter: str, mark: str, end: str) -> None:
    found = read(tmp_path, "p.csv", mark + table(delimiter, end))
    assert texts(found) == ASKED
    assert [prompt.source for prompt in found] == ["p.csv#1", "p.csv#2", "p.csv#3"]
    assert texts(read(tmp_path, "p.data", mark + table(delimiter, end), format="csv")) == ASKED


def test_a_table_as_python_writes_it(tmp_path: Path) -> None:
    with (tmp_path / "p.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "id"], dialect="excel-tab")
        writer.writeheader()
        writer.writerows(ROWS)
    assert texts(list(read_prompts(PromptsSection(path="p.tsv"), tmp_path))) == ASKED


def test_quotes_of_tab_separated_text_that_may_be_none(tmp_path: Path) -> None:
    """Without a quote in them both lines are rows, by the media type's rule; by CSV's they are one."""
    with pytest.raises(PromptError, match="lines 2 to 3: by its quotes this is one row"):
        read(tmp_path, "p.tsv", 'prompt\tid\n"Hello\t1\nthere"\t2\n')
    [one] = read(tmp_path, "p.tsv", 'prompt\tid\n"Hello\nthere\tyou"\t1\n')
    assert one.messages[0].content == "Hello\nthere\tyou"
    assert texts(read(tmp_path, "p.tsv", 'prompt\n"Hello\nthere"\n')) == ["Hello\nthere"]


def test_a_table_of_one_column(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "p.csv", "prompt\nHow are you?\n\nAnd you?\n")) == ["How are you?", "And you?"]
    with pytest.raises(PromptError, match=r"row 1 \(line 2\): has 2 cells, and the header has 1, parted by commas"):
        read(tmp_path, "p.csv", "prompt\nHello, you?\n")


BAD_TABLES = {
    'prompt,id\n"never closed,1\n': "cannot be read as CSV",
    'prompt,id\n"a" b,1\n': "cannot be read as CSV",
    "prompt,id\na,1\nb\n": r"row 2 \(line 3\): has 1 cells",
    'prompt,id\n"a\nb",1\nc,2,3\n': r"row 2 \(line 4\): has 3 cells",
    "prompt,prompt\na,b\n": "has 2 columns 'prompt'",
    "question,id\na,1\n": "there is no 'prompt'",
    "prompt,id\n,1\n": "turn 1 has no text",
    "a;b,c\n1;2,3\n": "parted by commas and by semicolons",
    "prompt,id\n": "no prompts",
    "": "no prompts",
}


@pytest.mark.parametrize("data", BAD_TABLES)
def test_tables_that_cannot_be_read(tmp_path: Path, data: str) -> None:
    with pytest.raises(PromptError, match=BAD_TABLES[data]):
        read(tmp_path, "p.csv", data)


def test_nothing_beside_the_prompt_is_lost_in_a_table(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="also has system"):
        read(tmp_path, "p.csv", "prompt,system\na,Be kind.\n")
    [first, second] = read(tmp_path, "p.csv", "prompt,system\na,Be kind.\nb,\n", system="system")
    assert [message.role for message in first.messages] == ["system", "user"]
    assert [message.role for message in second.messages] == ["user"], "an empty cell is no system turn"


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.json.zst", "p"])
def test_packed_files_by_their_first_bytes(tmp_path: Path, pack: Any, name: str) -> None:
    assert texts(read(tmp_path, name, pack(LINES.encode()))) == ASKED
    assert texts(read(tmp_path, name, pack(json.dumps(ROWS).encode()))) == ASKED
    assert texts(read(tmp_path, name, pack(LINES.encode()[:30]) + pack(LINES.encode()[30:]))) == ASKED
    assert texts(read(tmp_path, "p.csv.gz", pack(table(",").encode()))) == ASKED


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_packed_files_that_are_cut(tmp_path: Path, pack: Any) -> None:
    many = "\n".join(json.dumps({"prompt": f"Number {n}?"}) for n in range(2000)).encode()
    packed = pack(many)
    for data in (packed[:-3], packed[: len(packed) // 2], packed + b"junk"):
        with pytest.raises(PromptError, match="cannot be read"):
            read(tmp_path, "p.jsonl", data)


def test_a_zstd_file_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row, "FREE", 2**22)  # of 256 MiB, which take half a minute
    line = json.dumps({"prompt": "a" * 1000}).encode() + b"\n"
    with pytest.raises(PromptError, match="unpack to more than 4 MiB"):
        read(tmp_path, "p.jsonl", zstd(line * 6_000))


def test_parquet_whatever_it_is_called(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "p.bin")
    assert texts(list(read_prompts(PromptsSection(path="p.bin"), tmp_path))) == ASKED


def test_a_text_that_is_none_of_them(tmp_path: Path) -> None:
    for name, data in (("p.txt", "How are you?\nAnd you?\n"), ("p", "a,b\n1,2\n")):
        with pytest.raises(PromptError, match="neither the name nor the first line") as caught:
            read(tmp_path, name, data)
        assert "prompts.format" in str(caught.value.hint)


@pytest.mark.parametrize("data", ["[1, 2]", '["a"]', "[[]]", '[{"prompt": "a"}, 3]', '{"prompt": "a"} 3'])
def test_json_that_is_no_object(tmp_path: Path, data: str) -> None:
    with pytest.raises(PromptError, match="expected an object with keys"):
        read(tmp_path, "p.json", data)


@pytest.mark.parametrize("end", range(1, 80, 3))
def test_json_that_is_cut_is_never_fewer_rows(tmp_path: Path, end: int) -> None:
    for text in (json.dumps(ROWS[:2] * 2, indent=1), json.dumps(ROWS[:2]), PRETTY):
        cut = text[:end] if text is PRETTY else text[:-end]
        if cut.rstrip().endswith("}") and text is PRETTY:
            continue  # whole
        with pytest.raises(PromptError, match=r"not valid JSON|no prompts|neither the name"):
            read(tmp_path, "p.json", cut)
    cut = json.dumps(ROWS).rpartition("{")[0]
    for data in (cut.encode(), gzip.compress(cut.encode())):
        with pytest.raises(PromptError, match="the array does not end"):
            read(tmp_path, "p.json", data)


@pytest.mark.parametrize("junk", ["}", "[", "x", "null", '"s"', "\0", "\x1a"])
def test_what_comes_after_the_json_is_no_row_and_no_crash(tmp_path: Path, junk: str) -> None:
    for text in (json.dumps(ROWS), PRETTY, json.dumps(COLUMNS)):
        with pytest.raises(PromptError):
            read(tmp_path, "p.json", text + junk)


def test_json_on_one_line_longer_than_a_row_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constitution.prompts.packed.MOST_ROW", 50)
    for data in (json.dumps(ROWS), json.dumps(COLUMNS)):
        for name in ("p.json", "p"):
            assert texts(read(tmp_path, name, data)) == ASKED


@pytest.mark.parametrize(
    "data", ['[{"prompt": "a"},]', '[{"prompt": "a"} {"prompt": "b"}]', '[{"prompt": "a"}', '[{"prompt": NaN}]']
)
def test_json_that_is_none(tmp_path: Path, data: str) -> None:
    with pytest.raises(PromptError, match="not valid JSON"):
        read(tmp_path, "p.json", data)


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.parquet"])
def test_a_file_that_is_written_to_while_it_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text({"p.jsonl": LINES, "p.json": json.dumps(ROWS), "p.csv": table(",")}[name], newline="")
    rows = read_prompts(PromptsSection(path=name), tmp_path)
    assert next(rows).messages[0].content == ASKED[0]
    with path.open("a") as file:
        file.write("\n")
    with pytest.raises(PromptError, match="was changed while it was read"):
        list(rows)


# --- several files


def test_several_files_and_patterns(tmp_path: Path) -> None:
    for name, data in (
        ("a/1.jsonl", '{"prompt": "1"}'),
        ("a/2.json", '[{"prompt": "2"}]'),
        ("a/b/3.csv", "prompt\n3\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(data)

    def found(path: Any) -> list[str]:
        return [f"{p.source} {p.messages[0].content}" for p in read_prompts(PromptsSection(path=path), tmp_path)]

    assert found("a/*.json*") == ["1.jsonl#1 1", "2.json#1 2"]
    assert found("a/**/*.*") == ["1.jsonl#1 1", "2.json#1 2", "b/3.csv#1 3"]
    assert found(["a/b/3.csv", "a/1.jsonl"]) == ["3.csv#1 3", "1.jsonl#1 1"]
    assert found("[a]/[12].*") == ["a/1.jsonl#1 1", "a/2.json#1 2"]
    (tmp_path / "[x].jsonl").write_text('{"prompt": "x"}')
    assert found("[x].jsonl") == ["[x].jsonl#1 x"], "a file of that very name"
    for path, said in (
        ("a/*.txt", "no such file"),
        (["a/1.jsonl", "a/*.jsonl"], "names this file twice"),
        ([], "needs"),
    ):
        with pytest.raises((ConstitutionError, ValueError), match=said):
            found(path)


def test_a_pattern_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "odd [1] folder"
    here.mkdir()
    (here / "x.jsonl").write_text('{"prompt": "x"}')
    monkeypatch.chdir(here)
    for value in ("*.jsonl", "x.jsonl", '["x.jsonl"]'):
        data: dict[str, Any] = {"prompts": {"path": "other.jsonl"}}
        apply(data, [f"prompts.path={value}"])
        assert texts(list(read_prompts(PromptsSection(**data["prompts"]), tmp_path))) == ["x"]


def test_a_pattern_reads_nothing_outside_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "principles").mkdir(parents=True)
    (tmp_path / "secret.jsonl").write_text('{"prompt": "x"}')
    recipe = project / "r.toml"
    for path in ("../*.jsonl", "../secret.jsonl", "in/*.jsonl"):
        (project / "in").mkdir(exist_ok=True)
        (project / "in" / "link.jsonl").unlink(missing_ok=True)
        (project / "in" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
        recipe.write_text(
            'name = "a"\nconstitution = "general@1.0.0"\n[model.policy]\nengine = "fake"\n'
            f'[prompts]\npath = ["{path}"]\n'
        )
        with pytest.raises(ConstitutionError, match="outside the recipe's project"):
            check_places(load_recipe(recipe), recipe, (project,))


def test_the_same_readers_for_what_is_compared(tmp_path: Path) -> None:
    for name, data in (("p.json", json.dumps(ROWS)), ("p.csv", table(";")), ("p.txt", FORMS["columns"])):
        (tmp_path / name).write_text(data)
        assert [question for _, _, question in user_texts(tmp_path / name)] == ASKED
