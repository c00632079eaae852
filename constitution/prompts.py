"""Where prompts come from: JSONL, Parquet, transcripts, hub data sets, a SQL query; each read as a stream.

    for prompt in read_prompts(recipe.prompts, base=recipe_path.parent):
        ...

Nothing is guessed and nothing is dropped: a row that cannot be used is refused with its file, line and remedy.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from constitution import sandbox
from constitution.errors import PromptError, QueryError
from constitution.identity import Ids, canonical_json
from constitution.reading import parse_json
from constitution.recipe import PromptsSection
from constitution.records import Message, Messages, Prompt, Role

BATCH = 1024
"""Rows of Parquet or of a query's result in memory at once."""

MOST_LINE = 16 * 2**20
"""Bytes of a line."""
MOST_BLANK = 1_000_000
"""Lines without anything in them, of a whole file."""
ONE_A_LINE = "a JSONL file has one object to a line"

OUTSIDE = "a recipe reads in its project only; `constitution run --allow DIR` lets it read in DIR too"

_TURN = re.compile(r"\n\n(Human|Assistant):")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class _Raw:
    """A row as it was read, and where."""

    source: str
    """For the prompt's `source`: file#row."""
    place: str
    """For people: `prompts.jsonl, line 17`."""
    data: dict[str, Any]

    def refuse(self, what: str, hint: str | None = None) -> NoReturn:
        raise PromptError(f"{self.place}: {what}", hint=hint) from None


def read_prompts(section: PromptsSection, base: Path, folders: Sequence[Path] = ()) -> Iterator[Prompt]:
    """The prompts of `section`, in the source's order; relative paths are looked up from `base`, the recipe's folder.

    folders: where a query may read files, besides `base`.
    Memory: one row or batch, and 24 to 48 bytes a prompt to tell repeated conversations apart (`Prompt.repeat`).
    Raises PromptError for the first row that cannot be used, and when there is none at all.
    """
    seen = Ids()
    repeats: dict[str, int] = {}
    count = 0
    for raw in islice(_rows(section, base, folders), section.limit):
        prompt = _prompt(raw, section)
        if not seen.add(prompt.id):
            repeats[prompt.id] = repeats.get(prompt.id, 0) + 1
            prompt = replace(prompt, repeat=repeats[prompt.id])
        count += 1
        yield prompt
    if not count:
        raise PromptError(f"{_name(section)}: there are no prompts in it")


@dataclass(frozen=True, slots=True)
class Survey:
    """A source, read to its end."""

    digest: str
    """SHA-256 of what the source holds: a file's bytes; for a query, folder or data set, the prompts that it gives."""
    count: int
    """Prompts."""


def survey(section: PromptsSection, base: Path, folders: Sequence[Path] = ()) -> Survey:
    """Reads every prompt once, as `read_prompts` does, keeping none."""
    is_file = section.format not in ("hub", "sql")
    running = hashlib.sha256()
    count = 0
    for prompt in read_prompts(section, base, folders):
        count += 1
        if not is_file:
            running.update(canonical_json(asdict(prompt)) + b"\n")
    if not is_file:
        return Survey(running.hexdigest(), count)
    with _existing(section, base).open("rb") as handle:
        return Survey(hashlib.file_digest(handle, "sha256").hexdigest(), count)


def parse_transcript(text: str) -> Messages:
    """Turns of a `\\n\\nHuman: …\\n\\nAssistant: …` transcript, each whole, without the white space around it.

    Only a blank line before the speaker's name starts a turn: `Human:` inside a line is text, and so is every paragraph
    until the next turn. Two turns of one speaker in a row stay two. Raises ValueError for text before the first turn.
    """
    lead, *pieces = _TURN.split("\n\n" + text.lstrip())
    if lead.strip() or not pieces:
        raise ValueError("a transcript starts with `Human:` or `Assistant:`")
    return tuple(
        Message(_SPEAKERS[speaker], turn.strip()) for speaker, turn in zip(pieces[::2], pieces[1::2], strict=True)
    )


def split_answers(conversations: Sequence[Messages]) -> tuple[Messages, tuple[str, ...]]:
    """The turns that the conversations share up to a human turn, and what the assistant says after it in each.

    Raises ValueError when they share no human turn, or when an answer would hold a human turn of its own.
    """
    shared = 0
    for turns in zip(*conversations, strict=False):
        if any(turn != turns[0] for turn in turns):
            break
        shared += 1
    prompt = conversations[0][:shared]
    while prompt and prompt[-1].role != "user":
        prompt = prompt[:-1]
    if not prompt:
        raise ValueError("the answers' conversations have no human turn in common")
    tails = [conversation[len(prompt) :] for conversation in conversations]
    if any(message.role != "assistant" for tail in tails for message in tail):
        raise ValueError("the answers' conversations part before their last human turn")
    return prompt, tuple("\n\n".join(message.content for message in tail) for tail in tails)


# --- one row


def _prompt(raw: _Raw, section: PromptsSection) -> Prompt:
    if section.format == "transcripts":
        messages, answers = _from_transcripts(raw, section)
    else:
        messages, answers = _from_fields(raw, section)
    if messages[-1].role != "user":
        raw.refuse(
            "the last turn is not the user's", "take the answer out of the prompt, or name it in prompts.answers"
        )
    for number, message in enumerate(messages, 1):
        _check_text(raw, f"turn {number}", message.content)
        if not message.content.strip():
            raw.refuse(f"turn {number} has no text")
    for key, answer in zip(section.answers, answers, strict=True):
        _check_text(raw, key, answer)
    gold = section.answers.index(section.gold) if section.gold else None
    return Prompt(messages, raw.source, (*section.tags, *_own_tags(raw, section)), answers, gold)


def _own_tags(raw: _Raw, section: PromptsSection) -> list[str]:
    if section.tags_field is None:
        return []
    tags = _value(raw, section.tags_field)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raw.refuse(f"{section.tags_field} is not a list of texts")
    for tag in tags:
        _check_text(raw, section.tags_field, tag)
    return tags


def _from_transcripts(raw: _Raw, section: PromptsSection) -> tuple[Messages, tuple[str, ...]]:
    conversations = []
    for key in section.answers or (section.field,):
        text = _value(raw, key)
        if not isinstance(text, str):
            raw.refuse(f"{key} is not a text", "a transcript is one string; for lists of messages use format jsonl")
        try:
            conversations.append(parse_transcript(text))
        except ValueError as error:
            raw.refuse(f"{key}: {error}")
    if section.answers:
        return _shared(raw, conversations)
    return _until_last_human(raw, section.field, conversations[0]), ()


def _until_last_human(raw: _Raw, key: str, turns: Messages) -> Messages:
    while turns and turns[-1].role != "user":
        turns = turns[:-1]
    if not turns:
        raw.refuse(f"{key}: there is no human turn")
    return turns


def _from_fields(raw: _Raw, section: PromptsSection) -> tuple[Messages, tuple[str, ...]]:
    values = [_value(raw, key) for key in section.answers]
    key = section.field if raw.data.get(section.field) is not None else "messages"
    missing = raw.data.get(key) is None
    if missing and values and all(isinstance(value, list) for value in values):
        named = zip(section.answers, values, strict=True)
        return _shared(raw, [_messages(raw, key, value) for key, value in named])
    messages = _messages(raw, key, _value(raw, section.field if missing else key))
    return messages, tuple(
        _answer(raw, name, value, messages) for name, value in zip(section.answers, values, strict=True)
    )


def _shared(raw: _Raw, conversations: Sequence[Messages]) -> tuple[Messages, tuple[str, ...]]:
    try:
        return split_answers(conversations)
    except ValueError as error:
        raw.refuse(str(error), "leave the row out, or read it without prompts.answers")


def _messages(raw: _Raw, key: str, value: Any) -> Messages:
    """A string is one user turn; a list holds {role, content}."""
    if isinstance(value, str):
        if _TURN.match("\n\n" + value.lstrip()):
            raw.refuse(f"{key} is a transcript", 'set prompts.format = "transcripts"')
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        raw.refuse(f"{key} is neither a text nor a list of messages")
    messages = []
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            raw.refuse(f"{key}, turn {number}: expected {{role, content}} with a text in each")
        if item.get("role") not in ("system", "user", "assistant"):
            raw.refuse(f"{key}, turn {number}: role is {item.get('role')!r}", "roles are system, user and assistant")
        messages.append(Message(cast(Role, item["role"]), item["content"]))
    return tuple(messages)


def _answer(raw: _Raw, key: str, value: Any, prompt: Messages) -> str:
    """A text; or messages: the answer alone, or the prompt and the answer."""
    if isinstance(value, str):
        return value.strip()
    messages = _messages(raw, key, value)
    if messages[: len(prompt)] == prompt:
        messages = messages[len(prompt) :]
    if not messages or any(message.role != "assistant" for message in messages):
        raw.refuse(f"{key} does not go on from the prompt")
    return "\n\n".join(message.content for message in messages).strip()


def _value(raw: _Raw, key: str) -> Any:
    if raw.data.get(key) is None:
        known = ", ".join(sorted(raw.data)) or "none"
        raw.refuse(f"there is no {key!r} (it has: {known})", "name the key in prompts.field or prompts.answers")
    return raw.data[key]


def _check_text(raw: _Raw, where: str, text: str) -> None:
    if "\x00" in text:
        raw.refuse(f"{where} holds a NUL character", "take it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raw.refuse(f"{where}, character {error.start}: half of a surrogate pair", "the file was cut or badly encoded")


# --- sources


def _name(section: PromptsSection) -> str:
    return section.path or section.dataset or "prompts.query"


def _existing(section: PromptsSection, base: Path) -> Path:
    path = base / (section.path or "")
    if not path.is_file():
        raise PromptError(f"{path}: there is no such prompt file", hint="correct prompts.path, or --set prompts.path=…")
    return path


def _rows(section: PromptsSection, base: Path, folders: Sequence[Path]) -> Iterator[_Raw]:
    if section.format == "hub":
        return _hub(section, base)
    if section.format == "sql":
        return _sql(section, base, (base, *folders))
    return _file(_existing(section, base), section.format)


def _file(path: Path, format: str = "auto") -> Iterator[_Raw]:
    """Rows of one JSONL or Parquet file, told apart by name where `format` leaves it open."""
    reader: Callable[[Path], Iterator[_Raw]]
    name = path.name.lower()
    if format == "parquet" or name.endswith((".parquet", ".pq")):
        reader = _parquet
    elif format == "jsonl" or name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json.gz")):
        reader = _jsonl
    else:
        raise PromptError(
            f"{path}: the name does not say what is in it", hint='set prompts.format = "jsonl" or "parquet"'
        )
    return reader(path)


def _jsonl(path: Path) -> Iterator[_Raw]:
    number = blank = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as handle:
            # Never more than a line's limit at once: a few megabytes of .gz may unpack to terabytes.
            for number, line in enumerate(iter(lambda: handle.readline(MOST_LINE + 1), b""), 1):
                if len(line) > MOST_LINE:
                    raise PromptError(
                        f"{path}, line {number}: is longer than {MOST_LINE // 2**20} MiB", hint=ONE_A_LINE
                    )
                if line.strip():
                    yield _json_row(path, number, line)
                elif (blank := blank + 1) > MOST_BLANK:
                    raise PromptError(f"{path}, line {number}: {blank:,} lines before it are blank", hint=ONE_A_LINE)
    except (OSError, EOFError, zlib.error) as error:
        raise PromptError(f"{path}, after line {number}: cannot be read: {error}") from None


def _json_row(path: Path, number: int, line: bytes) -> _Raw:
    place = f"{path}, line {number}"
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(f"{place}: byte {error.start} is not UTF-8") from None
    data = parse_json(text, place, PromptError)
    if not isinstance(data, dict):
        raise PromptError(f"{place}: expected an object with keys, not {type(data).__name__}")
    return _Raw(f"{path.name}#{number}", place, data)


def _parquet(path: Path) -> Iterator[_Raw]:
    try:
        with pq.ParquetFile(path) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(BATCH))
            yield from _numbered(path.name, str(path), (row for batch in batches for row in batch))
    except (pa.ArrowException, OSError) as error:
        raise PromptError(f"{path}: cannot be read as Parquet: {error}") from None


def _numbered(source: str, place: str, rows: Iterable[dict[str, Any]]) -> Iterator[_Raw]:
    for number, row in enumerate(rows, 1):
        yield _Raw(f"{source}#{number}", f"{place}, row {number}", row)


def _hub(section: PromptsSection, base: Path) -> Iterator[_Raw]:
    """A local folder's files of the split, read here; anything else is the `datasets` package's."""
    name = section.dataset or ""
    if (base / name).is_dir():
        return _folder(base / name, section.split)
    if not _HUB_NAME.fullmatch(name) or Path(name).exists():
        # Such a name `datasets` would take for a folder of the working directory, an address or a script.
        raise PromptError(f"prompts.dataset {name!r}: neither a folder beside the recipe nor owner/name on the hub")
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise PromptError(
            f"prompts.dataset {name!r}: neither a local folder nor loadable, since `datasets` is not installed",
            hint="pip install 'constitution[hub]', or download the files and name their folder",
        ) from None
    try:
        rows = datasets.load_dataset(name, split=section.split, streaming=True)
    except Exception as error:  # whatever somebody else's loader raises, the user reads one sentence
        raise PromptError(f"prompts.dataset {name!r}, split {section.split!r}: {error}") from error
    return _numbered(f"{name}/{section.split}", f"{name}, split {section.split}", rows)


def _folder(folder: Path, split: str) -> Iterator[_Raw]:
    """Files named <split>… or lying in a folder <split>, by name."""
    files = sorted(path for path in folder.rglob("*") if path.name.endswith((".parquet", ".jsonl", ".jsonl.gz")))
    files = [path for path in files if path.name.startswith(split) or path.parent.name == split]
    if not files:
        raise PromptError(f"{folder}: no JSONL or Parquet file of the split {split!r}", hint="correct prompts.split")
    for path in files:
        yield from _file(path)


def _sql(section: PromptsSection, base: Path, folders: Sequence[Path]) -> Iterator[_Raw]:
    """Rows of one query, which reads files in `folders` and does nothing else. One thread: without ORDER BY too, the
    rows come in the same order every time."""
    with duckdb.connect(config={**sandbox.limits(), "threads": 1}) as connection:
        try:
            sandbox.check(connection, section.query or "", sandbox.READING_FUNCTIONS | sandbox.FILE_FUNCTIONS)
            query = sandbox.files_in(connection, section.query or "", base)
            sandbox.shut_in(connection, folders)
            result = connection.execute(query)
            names = [column[0] for column in result.description or ()]
            batches = iter(lambda: result.fetchmany(BATCH), [])
            rows = (dict(zip(names, row, strict=True)) for batch in batches for row in batch)
            yield from _numbered("query", "prompts.query", rows)
        except duckdb.PermissionException as error:
            raise PromptError(f"prompts.query: {str(error).splitlines()[0]}", hint=OUTSIDE) from None
        except (duckdb.Error, QueryError) as error:
            raise PromptError(f"prompts.query: {error}") from None
