"""What changed between two constitutions, principle by principle: as data, and as text for a terminal."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from constitution.records import Constitution, Criterion, Example, Exemplar, Principle
from constitution.shown import printable

ChangeKind = Literal[
    "added",
    "removed",
    "renamed",
    "reworded",
    "reweighted",
    "retagged",
    "exemplars",
    "examples",
    "criteria",
    "reordered",
]
_LISTS = ("exemplars", "examples", "criteria")
_TEXTS = ("critique_request", "revision_request", "comparison_question", "source")


@dataclass(frozen=True, slots=True)
class Change:
    kind: ChangeKind
    principle: str | None
    """Id in the newer constitution (of a removed one, in the older); None: the constitution as a whole."""
    field: str
    """The field that changed; empty for added and removed principles."""
    before: str
    """As text; empty where there was nothing."""
    after: str


def diff_constitutions(a: Constitution, b: Constitution) -> list[Change]:
    """Changes from `a` to `b`, in b's order, removed principles last. Empty exactly if they differ in no more than
    name and version."""
    changes = [
        Change("reworded", None, name, getattr(a, name), getattr(b, name))
        for name in ("description", "source", "license")
        if getattr(a, name) != getattr(b, name)
    ]
    changes += _sequence("exemplars", None, a.exemplars, b.exemplars)
    old = {principle.id: principle for principle in a.principles}
    new = {principle.id: principle for principle in b.principles}
    renamed = _renamed([p for p in a.principles if p.id not in new], [p for p in b.principles if p.id not in old])
    for principle in b.principles:
        before = old.get(principle.id) or renamed.get(principle.id)
        if before is None:
            changes.append(Change("added", principle.id, "", "", _whole(principle)))
            continue
        if before.id != principle.id:
            changes.append(Change("renamed", principle.id, "id", before.id, principle.id))
        changes += _principle_changes(before, principle)
    gone = set(old) - set(new) - {principle.id for principle in renamed.values()}
    changes += [Change("removed", p.id, "", _whole(p), "") for p in a.principles if p.id in gone]
    return changes + _reordered(a, b, renamed)


def _renamed(gone: list[Principle], come: list[Principle]) -> dict[str, Principle]:
    """New id → old principle, where all three texts are the same."""
    pairs: dict[str, Principle] = {}
    for principle in come:
        for before in gone:
            if before not in pairs.values() and all(getattr(before, n) == getattr(principle, n) for n in _TEXTS[:3]):
                pairs[principle.id] = before
                break
    return pairs


def _principle_changes(a: Principle, b: Principle) -> Iterator[Change]:
    for name in _TEXTS:
        if getattr(a, name) != getattr(b, name):
            yield Change("reworded", b.id, name, getattr(a, name), getattr(b, name))
    if a.weight != b.weight:
        yield Change("reweighted", b.id, "weight", f"{a.weight!r}", f"{b.weight!r}")
    if a.tags != b.tags:
        yield Change("retagged", b.id, "tags", ", ".join(a.tags), ", ".join(b.tags))
    yield from _sequence("exemplars", b.id, a.exemplars, b.exemplars)
    yield from _sequence("examples", b.id, a.examples, b.examples)
    yield from _sequence("criteria", b.id, a.criteria, b.criteria)


def _sequence(
    name: Literal["exemplars", "examples", "criteria"],
    principle: str | None,
    a: tuple[Exemplar, ...] | tuple[Example, ...] | tuple[Criterion, ...],
    b: tuple[Exemplar, ...] | tuple[Example, ...] | tuple[Criterion, ...],
) -> Iterator[Change]:
    """One change per exemplar, example or criterion that came, went, or stands elsewhere now."""
    before, after = [_text(item) for item in a], [_text(item) for item in b]
    for operation, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if operation != "equal":
            for offset in range(max(j - i, m - k)):
                old = before[i + offset] if i + offset < j else ""
                new = after[k + offset] if k + offset < m else ""
                number = (k if new else i) + offset + 1
                yield Change(name, principle, f"{name} #{number}", old, new)


def _text(item: Exemplar | Example | Criterion) -> str:
    """All of it, a line per field, so that any difference shows; a criterion in one line."""
    if isinstance(item, Criterion):
        return f"{item.question} (good: {item.good}, weight {item.weight!r})"
    lines = [f"{message.role}: {message.content}" for message in item.messages]
    fields = ("response", "critique_request", "critique", "revision_request", "revision", "better", "worse")
    return "\n".join(lines + [f"{name}: {value}" for name in fields if (value := getattr(item, name, ""))])


def _whole(principle: Principle) -> str:
    lines = [f"{name}: {value}" for name in _TEXTS if (value := getattr(principle, name))]
    lines += [f"weight: {principle.weight:g}"] + ([f"tags: {', '.join(principle.tags)}"] if principle.tags else [])
    counts = {name: len(getattr(principle, name)) for name in ("exemplars", "examples", "criteria")}
    return "\n".join(lines + [f"{name}: {count}" for name, count in counts.items() if count])


def _reordered(a: Constitution, b: Constitution, renamed: dict[str, Principle]) -> list[Change]:
    new = {old.id: name for name, old in renamed.items()}
    in_b = {principle.id for principle in b.principles}
    before = [new.get(p.id, p.id) for p in a.principles if new.get(p.id, p.id) in in_b]
    after = [p.id for p in b.principles if p.id in set(before)]
    if before == after:
        return []
    return [Change("reordered", None, "principles", ", ".join(before), ", ".join(after))]


def word_diff(before: str, after: str) -> list[tuple[Literal["same", "removed", "added"], str]]:
    """`after` against `before` as runs of words; white space that changed shows too."""
    a, b = (re.findall(r"\w+(?:['’-]\w+)*|\s+|[^\w\s]", text) for text in (before, after))
    runs: list[tuple[Literal["same", "removed", "added"], str]] = []
    for operation, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if operation == "equal":
            runs.append(("same", "".join(a[i:j])))
            continue
        if j > i:
            runs.append(("removed", "".join(a[i:j])))
        if m > k:
            runs.append(("added", "".join(b[k:m])))
    return _joined(runs)


def _joined(
    runs: list[tuple[Literal["same", "removed", "added"], str]],
) -> list[tuple[Literal["same", "removed", "added"], str]]:
    """Runs with the lone spaces between changed words drawn into the change: one change of three words, not three."""
    out: list[tuple[Literal["same", "removed", "added"], str]] = []
    removed = added = ""
    for index, (kind, text) in enumerate(runs):
        between = kind == "same" and text.isspace() and (removed or added) and index + 1 < len(runs)
        if kind == "same" and not between:
            out += _change(removed, added)
            removed = added = ""
            out.append((kind, text))
        else:
            removed += text if kind != "added" else ""
            added += text if kind != "removed" else ""
    return out + _change(removed, added)


def _change(removed: str, added: str) -> list[tuple[Literal["same", "removed", "added"], str]]:
    out: list[tuple[Literal["same", "removed", "added"], str]] = []
    if removed:
        out.append(("removed", removed))
    if added:
        out.append(("added", added))
    return out


def render_diff(a: Constitution, b: Constitution, *, color: bool = False) -> str:
    """The changes for a terminal. Removed words stand in [-…-], added ones in {+…+}, coloured too with `color`."""
    changes = diff_constitutions(a, b)
    lines = [f"{a.label} → {b.label}"]
    if not changes:
        return f"{lines[0]}\nno differences"
    previous: str | None = ""
    for change in changes:
        if change.kind in ("added", "removed"):
            sign, text = ("+", change.after) if change.kind == "added" else ("-", change.before)
            lines += ["", _paint(f"{change.kind} principle {change.principle}", sign, color)]
            lines += [_paint(f"  {sign} {line}", sign, color) for line in text.splitlines()]
        else:
            if change.principle != previous:
                lines += ["", f"principle {change.principle}" if change.principle else "the constitution as a whole"]
            lines += _changed_lines(change, color)
        previous = change.principle
    return "\n".join([*lines, "", _summary(changes)])


def _changed_lines(change: Change, color: bool) -> list[str]:
    if change.kind in ("reweighted", "renamed", "retagged", "reordered"):
        return [f"  {change.kind}: {change.before or 'nothing'} → {change.after or 'nothing'}"]
    if change.kind in _LISTS and not (change.before and change.after):
        kind, sign, text = ("added", "+", change.after) if change.after else ("removed", "-", change.before)
        return [
            f"  {kind} {change.field}",
            *(_paint(f"    {sign} {printable(line)}", sign, color) for line in text.splitlines()),
        ]
    marks = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
    pieces = []
    for kind, text in word_diff(change.before, change.after):
        start, end = marks[kind]
        pieces.append(_paint(f"{start}{text}{end}", {"removed": "-", "added": "+"}.get(kind, ""), color))
    text = "".join(pieces).replace("\n", "\n      ")
    return [f"  reworded {change.field}:", f"      {text}"]


def _paint(text: str, sign: str, color: bool) -> str:
    code = {"+": "32", "-": "31"}.get(sign) if color else None
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _summary(changes: list[Change]) -> str:
    """`1 added, 3 reworded principles, …`: counts of principles, not of fields."""
    parts = []
    for kind in ("added", "removed", "renamed", "reworded", "reweighted", "retagged"):
        count = len({change.principle for change in changes if change.kind == kind and change.principle})
        if count:
            parts.append(f"{count} {kind}")
    others = sorted({change.kind for change in changes if change.kind in (*_LISTS, "reordered")})
    parts += [{"reordered": "order changed"}.get(kind, f"{kind} changed") for kind in others]
    if any(change.principle is None and change.kind == "reworded" for change in changes):
        parts.append("head changed")
    return "principles: " + ", ".join(parts)
