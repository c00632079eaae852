"""What a file of rows holds, and the settings of [prompts] that read it: found by trying, never taken on trust.

found = inspect_file(Path("data.jsonl"))
print(found.section())
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitution.errors import PromptError
from constitution.principles.languages import looks_like
from constitution.prompts.fields import Fields
from constitution.prompts.files import read_file
from constitution.prompts.kept import as_json
from constitution.prompts.keys import CONVERSATIONS, SYSTEMS, AnyKeys, Keys, is_empty, plain_key
from constitution.prompts.known import known, thumbs
from constitution.prompts.messages import likely_role
from constitution.prompts.names import Names
from constitution.prompts.offered import known_of, section
from constitution.prompts.paths import parted
from constitution.prompts.row import LOOK, Row, UnknownRole, Unused
from constitution.prompts.scripts import ALONE
from constitution.prompts.transcripts import is_transcript
from constitution.prompts.trees import prompts_of
from constitution.recipe import PromptsSection
from constitution.records import Prompt

SAMPLE = 200
"""Rows that settings are tried on before all rows are read by them."""
_ROUNDS = 8
"""Times that keys are left out: those of turns are seen when those of rows are left out."""
TOLD = 2000
"""Prompts whose language is looked at."""
SIDES = 8
"""Values that a key may have at most that says which answer is better."""

_PROMPTS = (
    *("prompt", "messages", "conversations", "instruction", "question", "query", "input", "problem", "text", "history"),
    *(
        "body.messages",
        "body.input",
        "input.messages",
        "params.messages",
        "user_prompt",
        "user_input",
        "context",
        "transcript",
    ),
    *("conversation", "items", "contents", "inputs", "dialog", "dialogue", "goal", "behavior", "prompt_text"),
)
"""Keys that hold prompts in public data sets, the likeliest first."""
_SCRIPTS = ("turns", "prompt", "history", "questions", "conversation")
"""Keys that hold lists of what the user says, turn after turn, in public data sets."""
_ALONE = {*ALONE}
_PAIRS = (
    *(("chosen", "rejected"), ("preferred_output", "non_preferred_output"), ("chosen_response", "rejected_response")),
    *(("conversation_a", "conversation_b"), ("response_a", "response_b"), ("response_A", "response_B")),
    *(
        ("response_0", "response_1"),
        ("answer_0", "answer_1"),
        ("human_ref_A", "human_ref_B"),
        ("response1", "response2"),
    ),
    *(("output_1", "output_2"), ("answer_a", "answer_b"), ("completion_a", "completion_b")),
)
_ANSWERS = ("output", "response", "completion", "answer", "target", "targets", "model_output")
_LISTS = ("responses", "completions", "answers", "outputs", "candidates", "generations")
"""Keys that hold lists of answers."""
_TEXTS = ("text", "response", "answer", "content", "output", "completion")
"""Keys of their texts."""
_JOINED = ("input", "context")
"""Keys of what an instruction is about, which follows it."""
_BETTER = ("chosen", "preferred_output", "chosen_response")
_SIDES = ("winner", "label", "labels", "preference", "preferred", "better_response_id", "safer_response_id", "choice")
_TIE = re.compile(r"tie|both|neither|equal|same|=|none|0\.5", re.IGNORECASE)

_NAMING = {
    *("model", "response", "answer", "assistant", "output", "completion"),
    *("conversation", "option", "candidate", "choice", "side", "system"),
}
"""What a value may put before an answer's letter or number; `not a` and `worse_a` name the other one."""
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
"""With signs, or with others than two, they are a scale: 2 of −3 to 3 or of 1 to 5 is no second answer."""


class _Every(AnyKeys):
    """All of a row is read."""

    lenient = True

    def __init__(self, rows: str | None) -> None:
        self.rows = rows


@dataclass
class Inspection:
    """What a file holds, by the settings that read most of its rows."""

    path: Path
    settings: dict[str, Any]
    """Fields of [prompts]; empty where none were found."""
    rows: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    """Rows that have something under each key."""
    prompts: list[Prompt] = field(default_factory=list)
    """The first three as they would be read."""
    read: int = 0
    turns: Counter[int] = field(default_factory=Counter)
    scripted: int = 0
    """Rows with turns that are asked after the model's own answers."""
    systems: int = 0
    characters: list[int] = field(default_factory=list)
    """Length of each prompt, all turns together."""
    languages: Counter[str] = field(default_factory=Counter)
    """Languages of the first `TOLD` prompts, by their frequent words; empty: not plain, or of no known language."""
    repeated: int = 0
    """Rows whose conversation an earlier row has."""
    gold: Counter[int | None] = field(default_factory=Counter)
    """Which of the answers is better, by its place; None: the row has no gold."""
    refused: list[str] = field(default_factory=list)
    """The first rows that these settings do not read, and why."""
    refusals: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    """How many answers each prompt has."""
    notes: list[str] = field(default_factory=list)
    """What no setting reads."""
    cut: int = 0
    """Prompts whose last answer would be cut off."""
    name: str | None = None
    """A key that names the rows: each has another text or number there."""
    known: dict[str, str] = field(default_factory=dict)
    """`offered.known_of` the first rows."""
    unkept: dict[str, str] = field(default_factory=dict)
    """Why a key without use is nothing that `metadata` keeps."""

    @property
    def unused(self) -> list[str]:
        """Keys that these settings do not read."""
        keys = Keys(_section(self.settings))
        return [key for key in self.keys if not keys.uses(key)]

    def section(self) -> str:
        """The [prompts] section to paste, in TOML."""
        offers: dict[str, Any] = {**self.known, **({"id_field": self.name} if self.name else {})}
        if others := [key for key in self.unused if key not in {*offers.values(), *self.unkept}]:
            offers["metadata"] = others
        return section(str(self.path), self.settings, offers)


def inspect_file(path: Path, rows: str | None = None) -> Inspection:
    """Reads the whole file, as a stream. rows: key of a JSON file's rows (`prompts.rows`).

    Raises PromptError for a file that is none of the forms that are read.
    """
    found = iter(read_file(path, _Every(rows), faulty=True))
    sample = list(islice(found, SAMPLE))
    if not sample:
        raise PromptError(f"{path}: there are no rows in it")
    settings = max(_candidates(sample), key=lambda each: _reads(each, sample), default={})
    inspection = Inspection(path, ({"rows": rows} if rows else {}) | settings)
    inspection.notes += thumbs(path, settings, sample)
    names = Names(row.data for row in sample if not row.fault)
    _read_all(inspection, names.watched(chain(sample, found)))
    inspection.name = names.found
    inspection.known = known_of(sample, inspection.unused)
    inspection.notes += (
        f"{why}: metadata does not keep it; format sql can CAST it" for why in inspection.unkept.values()
    )
    if not inspection.read and not settings:
        inspection.notes.append(
            "no key is called as public data sets call a prompt: name the key that holds it in field, keys of given "
            "answers in answers"
        )
    if 0 < inspection.refusals < inspection.read and not settings.get("trees"):
        inspection.settings = {**inspection.settings, "on_bad_row": "skip"}
    return inspection


def _read_all(found: Inspection, rows: Iterator[Row]) -> None:
    seen = set[int]()
    keys = Keys(_section(found.settings))

    def counted() -> Iterator[Row]:
        for row in rows:
            found.rows += 1
            found.keys.update(key for key, value in row.data.items() if not is_empty(value))
            for key in row.data.keys() - found.unkept.keys():
                if not keys.uses(key):
                    try:
                        as_json(row, key, row.data[key])
                    except PromptError as error:
                        found.unkept[key] = str(error)
            yield row

    for prompt in _tried(_section(found.settings), counted()):
        if isinstance(prompt, PromptError):
            found.refusals += 1
            if len(found.refused) < 3:
                found.refused.append(f"{prompt}" + (f" ({hint})" if (hint := prompt.hint.removesuffix(LOOK)) else ""))
            continue
        found.read += 1
        if len(found.prompts) < 3:
            found.prompts.append(prompt)
        found.turns[len(prompt.messages) + len(prompt.script)] += 1
        found.scripted += bool(prompt.script)
        found.systems += prompt.messages[0].role == "system"
        found.characters.append(sum(len(turn.content) for turn in prompt.messages) + sum(map(len, prompt.script)))
        if found.read <= TOLD:
            language = looks_like([*(turn.content for turn in prompt.messages), *prompt.script])
            found.languages[language.name if language else ""] += 1
        found.repeated += (key := int(prompt.id[:15], 16)) in seen
        seen.add(key)
        found.answers[len(prompt.answers)] += 1
        found.gold[prompt.gold] += 1
        found.cut += prompt.cut_answer is not None


def _tried(section: PromptsSection, rows: Iterable[Row]) -> Iterator[Prompt | PromptError]:
    """The prompts by a section, and why a row is none."""
    fields = Fields(section)
    try:
        for row in prompts_of(rows, section) if section.trees else rows:
            try:
                yield fields.prompt(row)
            except PromptError as error:
                yield error
    except PromptError as error:
        if not section.trees:  # of the file
            raise
        yield error  # trees that are none


def _section(settings: Mapping[str, Any]) -> PromptsSection:
    return PromptsSection.model_validate({"path": "file", **settings})


def _is_valid(settings: Mapping[str, Any]) -> bool:
    try:
        _section(settings)
    except ValidationError:  # a key that would be used and ignored, or settings that do not go together
        return False
    return True


def _reads(settings: Mapping[str, Any], sample: list[Row]) -> tuple[int, int, int]:
    """How many rows are read, less those that are not, then how much of them is used, then how little is left out."""
    tried = [isinstance(found, Prompt) for found in _tried(_section(settings), sample)]
    used = sum(len(settings.get(name, ())) for name in ("answers", "join", "gold_highest", "gold_lowest"))
    used += sum(name in settings for name in ("gold", "system", "history"))
    return min(tried.count(True), len(sample)) - tried.count(False), used, -len(settings.get("ignore", ()))


def _candidates(sample: list[Row]) -> Iterator[dict[str, Any]]:
    """Settings that may read these rows; the likeliest first."""
    rows = [row.data for row in sample if not row.fault]
    if not rows:
        return
    for shape in known(rows[0]):
        yield _without_rest(sample, shape.settings)
    spelt = {plain_key(key): key for row in rows for key in row}
    for name in _PROMPTS:
        key = name if "." in name else spelt.get(plain_key(name), name)
        held = [value for row in rows if not is_empty(value := _held(row, key))]
        if not held:
            continue
        base: dict[str, Any] = {} if key in ("prompt", *CONVERSATIONS) else {"field": key}
        if isinstance(held[0], str) and is_transcript(held[0]):
            base = {**base, "format": "transcripts"}
        elif isinstance(held[0], str) and held[0].lstrip()[:1] in ("[", "{"):
            base = {**base, "json_text": "messages"}
        no_part = ("history", "join") if "format" in base else ()  # of transcripts, which are whole
        for more in _answers(rows, key):
            yield _without_rest(sample, base | {name: value for name, value in more.items() if name not in no_part})
    for key in _SCRIPTS:
        items = [item for row in rows if isinstance(held := _held(row, key), list) for item in held]
        if items and all(isinstance(item, str) or (isinstance(item, dict) and _ALONE & item.keys()) for item in items):
            others = dict.fromkeys(name for item in items if isinstance(item, dict) for name in item)
            ignore = {"ignore": beside} if (beside := [name for name in others if name not in _ALONE]) else {}
            yield _without_rest(sample, {"turns": key, **ignore})
    for name in _ANSWERS:
        if isinstance(rows[0].get(name), list):  # a whole conversation, as Axolotl has it for KTO
            yield _without_rest(sample, {"field": name, "answers": [name]})
    for pair in _PAIRS:
        if all(_held(rows[0], key) for key in pair):  # whole conversations, that share the prompt
            transcript = isinstance(text := _held(rows[0], pair[0]), str) and is_transcript(text)
            form = {"format": "transcripts"} if transcript else {}
            yield _without_rest(sample, form | _with_gold(rows, pair))


def _answers(rows: list[dict[str, Any]], key: str) -> Iterator[dict[str, Any]]:
    """What may go with the prompt under `key`: texts that follow it, turns before it, and answers."""
    more: dict[str, Any] = (
        {"history": "history"} if key != "history" and any(row.get("history") for row in rows) else {}
    )
    joined = [name for name in _JOINED if plain_key(key) == "instruction" and any(name in row for row in rows)]
    if joined:
        more = {**more, "join": joined[:1]}
    yield more
    for pair in _PAIRS:
        if all(name in rows[0] for name in pair):
            yield more | _with_gold(rows, pair)
    for name in _LISTS if not isinstance(rows[0].get("labels"), list) else ():  # they are then steps of one answer
        held = next((row[name] for row in rows if isinstance(row.get(name), list) and row[name]), None)
        if held and isinstance(held[0], dict):
            yield from (more | {"answers": [f"{name}[].{text}"]} for text in _TEXTS if text in held[0])
        elif held:
            yield more | {"answers": [f"{name}[]"]}
        if isinstance(columns := rows[0].get(name), dict):
            listed = [text for text in _TEXTS if isinstance(columns.get(text), list)]
            yield from (more | {"answers": [f"{name}.{text}[]"]} for text in listed)
    yield from (more | {"answers": [name]} for name in _ANSWERS if name in rows[0] and name != key)
    text = next((row[key] for row in rows if key in row), None)
    answered = isinstance(text, str) and is_transcript(text) and not text.rstrip().endswith("Assistant:")
    if key in (*CONVERSATIONS, "conversation", "items", "contents") or answered:
        yield more | {"answers": [key]}


def _with_gold(rows: list[dict[str, Any]], pair: tuple[str, str]) -> dict[str, Any]:
    """A pair of answers, with what says which is better: the first one's name, or the values of a key."""
    if pair[0] in _BETTER:
        return {"answers": list(pair), "gold": pair[0]}
    for name in _SIDES:
        held = [row[name] for row in rows if row.get(name) is not None]
        if not all(isinstance(value, str | int | float) for value in held):  # a column of another type is refused
            continue
        values = Counter(map(_text, held))
        sides = {value: _side(value, pair) for value in values}
        scale = any(_NUMBER.fullmatch(value) and (not sides[value] or value[0] in "+-") for value in values)
        if values and len(values) <= SIDES and set(pair) <= set(sides.values()) and not scale:
            return {"answers": list(pair), "gold": name, "gold_values": sides}
    return {"answers": list(pair)}


def _side(value: str, pair: tuple[str, str]) -> str:
    """Which of two answers a value names, by what ends both; empty: neither."""
    first, _, second = value.partition(">")
    plain = plain_key(first if second else value.partition("<")[2] or value)
    for name in pair:
        ending = re.split(r"[_\W]", name)[-1].casefold()
        before = plain.removesuffix(ending) if plain.endswith(ending) else None
        if plain == plain_key(name) or before == "" or (before in _NAMING and not _TIE.search(value)):
            return name
    return ""


def _without_rest(sample: list[Row], settings: dict[str, Any]) -> dict[str, Any]:
    """With the system's turn, and with the keys named that would be left out. Empty where no recipe takes them."""
    if not _is_valid(settings):
        return {}
    if "system" not in settings and (system := _system(sample, settings)):
        settings = {**settings, "system": system}
    for _ in range(_ROUNDS):
        tried = list(_tried(_section(settings), sample))
        unused = [found for found in tried if isinstance(found, Unused)]
        beside = dict.fromkeys(key for found in unused for key in found.keys if key not in CONVERSATIONS)
        names = {found.role for found in tried if isinstance(found, UnknownRole)}
        roles = {name: role for name in sorted(names) if (role := likely_role(name))}
        if not beside and not roles:
            break
        more = {"ignore": [*settings.get("ignore", ()), *beside]} if beside else {}
        if roles:
            more["roles"] = settings.get("roles", {}) | roles
        if not _is_valid(settings | more):
            break
        settings = settings | more
    return settings


def _system(sample: list[Row], settings: dict[str, Any]) -> str | None:
    """Key of the system's turn, of those that would be left out."""
    keys = Fields(_section(settings)).keys
    beside = dict.fromkeys(key for row in sample for key in keys.beside(keys.parted(row.data)))
    return next((key for key in beside if plain_key(key.rpartition(".")[2]) in SYSTEMS and "[" not in key), None)


def _held(row: Mapping[str, Any], key: str) -> Any:
    """The value under a key, also one inside a value."""
    return row[key] if key in row else parted(dict(row), [key]).get(key)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
