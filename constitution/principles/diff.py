"""What changed between two constitutions, principle by principle: as data, and as text for a terminal."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from constitution.principles.change import Change
from constitution.principles.profiles import profile_changes
from constitution.principles.texts import REQUESTS
from constitution.principles.translation import translation, translation_changes
from constitution.records import Constitution, Criterion, Example, Exemplar, Principle
from constitution.shown import printable

_TEXTS = (*REQUESTS, "aim", "against", "why", "quote", "source")
_BY_ID = ("system prompts", "profiles")
_LISTS: tuple[Literal["exemplars", "examples", "criteria"], ...] = ("exemplars", "examples", "criteria")


def changes_between(a: Constitution, b: Constitution) -> list[Change]:
    """What a reader of both wants to know: of a translation and its original, whichever comes first, what is not
    translated; of others, what changed."""
    both = translation(a, b)
    return translation_changes(*both) if both else diff_constitutions(a, b)


def diff_constitutions(a: Constitution, b: Constitution) -> list[Change]:
    """Changes from `a` to `b`, in b's order, removed principles last. Empty exactly if they differ in no more than
    name and version."""
    changes = list(_reworded(None, a, b, ("description", "source", "license", "language", "translation_of")))
    changes += _sequence("exemplars", None, a.exemplars, b.exemplars)
    changes += [*_system_prompts(a, b), *profile_changes(a, b)]
    old = {principle.id: principle for principle in a.principles}
    new = {principle.id for principle in b.principles}
    gone = [principle for principle in a.principles if principle.id not in new]
    then: dict[str, str] = {}  # ids of today, with those of before
    for principle in b.principles:
        before = old.get(principle.id) or next((each for each in gone if _same_requests(each, principle)), None)
        if before is None:
            changes.append(Change("added", principle.id, "", "", _whole(principle)))
            continue
        then[principle.id] = before.id
        if before in gone:
            gone.remove(before)
            changes.append(Change("renamed", principle.id, "id", before.id, principle.id))
        changes += _principle_changes(before, principle)
    changes += [Change("removed", each.id, "", _whole(each), "") for each in gone]
    today = {before: id for id, before in then.items()}
    orders = [", ".join(today[id] for id in old if id in today), ", ".join(then)]
    return changes + ([Change("reordered", None, "principles", *orders)] if orders[0] != orders[1] else [])


def _same_requests(one: Principle, other: Principle) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in REQUESTS)


def _principle_changes(a: Principle, b: Principle) -> Iterator[Change]:
    yield from _reworded(b.id, a, b, _TEXTS)
    if a.weight != b.weight:
        yield Change("reweighted", b.id, "weight", f"{a.weight!r}", f"{b.weight!r}")
    if a.tags != b.tags:
        yield Change("retagged", b.id, "tags", ", ".join(a.tags), ", ".join(b.tags))
    if a.clauses != b.clauses:
        yield Change("clauses", b.id, "clauses", ", ".join(a.clauses), ", ".join(b.clauses))
    for name in _LISTS:
        yield from _sequence(name, b.id, getattr(a, name), getattr(b, name))


def _reworded(
    principle: str | None, a: Constitution | Principle, b: Constitution | Principle, names: Sequence[str]
) -> Iterator[Change]:
    for name in names:
        if getattr(a, name) != getattr(b, name):
            yield Change("reworded", principle, name, getattr(a, name), getattr(b, name))


def _sequence(
    name: Literal["exemplars", "examples", "criteria"],
    principle: str | None,
    a: Sequence[Exemplar | Example | Criterion],
    b: Sequence[Exemplar | Example | Criterion],
) -> Iterator[Change]:
    """One change per exemplar, example or criterion that came, went, or has another place now."""
    before, after = [_text(item) for item in a], [_text(item) for item in b]
    for operation, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for offset in range(max(j - i, m - k) if operation != "equal" else 0):
            old = before[i + offset] if i + offset < j else ""
            new = after[k + offset] if k + offset < m else ""
            yield Change(name, principle, f"{name} #{(k if new else i) + offset + 1}", old, new)


def _system_prompts(a: Constitution, b: Constitution) -> Iterator[Change]:
    """By id."""
    before, after = ({each.id: f"{each.text}\n{each.thought}".strip() for each in c.system_prompts} for c in (a, b))
    for id in dict.fromkeys((*before, *after)):
        if before.get(id) != after.get(id):
            yield Change("system prompts", None, f"system prompt {id}", before.get(id, ""), after.get(id, ""))


def _text(item: Exemplar | Example | Criterion) -> str:
    """All of it, a line per field, so that any difference shows; a criterion in one line."""
    if isinstance(item, Criterion):
        kind = f", {item.kind}" if item.kind else ""
        return f"{item.question} (good: {item.good}, weight {item.weight!r}{kind})"
    lines = [f"{message.role}: {message.content}" for message in item.messages]
    fields = ("response", "critique_request", "critique", "revision_request", "revision", "better", "worse")
    return "\n".join(lines + [f"{name}: {value}" for name in fields if (value := getattr(item, name, ""))])


def _whole(principle: Principle) -> str:
    lines = [f"{name}: {value}" for name in _TEXTS if (value := getattr(principle, name))]
    lines += [f"weight: {principle.weight:g}"]
    lines += [f"{name}: {', '.join(value)}" for name in ("tags", "clauses") if (value := getattr(principle, name))]
    return "\n".join(lines + [f"{name}: {count}" for name in _LISTS if (count := len(getattr(principle, name)))])


def render_diff(a: Constitution, b: Constitution, *, color: bool = False) -> str:
    """The changes for a terminal. Removed words are in [-…-], added ones in {+…+}, coloured too with `color`."""
    both = translation(a, b)
    if both:
        return _render_translation(*both)
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


def _render_translation(original: Constitution, translated: Constitution) -> str:
    changes = translation_changes(original, translated)
    lines = [f"{original.label} → {translated.label}, its translation"]
    if not changes:
        return f"{lines[0]}\nall of it is translated"
    previous: str | None = ""
    for change in changes:
        if change.field == "":
            lines += ["", f"{change.kind} principle {change.principle}"]
        else:
            if change.principle != previous:
                lines += ["", f"principle {change.principle}" if change.principle else "the constitution as a whole"]
            lines.append(f"  {change.kind} {change.field}: {_difference(change)}")
        previous = change.principle
    counts = Counter(change.kind for change in changes)
    return "\n".join([*lines, "", "translation: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())])


def _difference(change: Change) -> str:
    if change.kind in ("missing", "untranslated"):
        return printable(" ".join(change.before.split()))
    return printable(
        " ".join((change.after if change.kind == "extra" else f"{change.before} → {change.after}").split())
    )


def _changed_lines(change: Change, color: bool) -> list[str]:
    if change.kind in ("reweighted", "renamed", "retagged", "clauses", "reordered"):
        return [f"  {change.kind}: {change.before or 'nothing'} → {change.after or 'nothing'}"]
    if change.kind in (*_LISTS, *_BY_ID) and not (change.before and change.after):
        kind, sign, text = ("added", "+", change.after) if change.after else ("removed", "-", change.before)
        lines = [_paint(f"    {sign} {printable(line)}", sign, color) for line in text.splitlines()]
        return [f"  {kind} {change.field}", *lines]
    return [
        f"  reworded {change.field}:",
        "      " + _word_diff(change.before, change.after, color).replace("\n", "\n      "),
    ]


def _word_diff(before: str, after: str, color: bool) -> str:
    """`after` against `before`, word by word; white space that changed shows too."""
    a, b = (re.findall(r"\s*(?:\w+(?:['’-]\w+)*|[^\w\s])|\s+", text) for text in (before, after))
    pieces = []
    for operation, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if operation == "equal":
            pieces.append("".join(a[i:j]))
            continue
        old, new = "".join(a[i:j]), "".join(b[k:m])
        if old[:1] == new[:1] == " ":  # the space before both is no change
            pieces.append(" ")
            old, new = old[1:], new[1:]
        pieces += [_paint(f"[-{old}-]", "-", color)] if old else []
        pieces += [_paint(f"{{+{new}+}}", "+", color)] if new else []
    return "".join(pieces)


def _paint(text: str, sign: str, color: bool) -> str:
    return f"\x1b[{'32' if sign == '+' else '31'}m{text}\x1b[0m" if color else text


def _summary(changes: list[Change]) -> str:
    """`1 added, 3 reworded principles, …`: counts of principles, not of fields."""
    counts = {
        kind: len({change.principle for change in changes if change.kind == kind and change.principle})
        for kind in ("added", "removed", "renamed", "reworded", "reweighted", "retagged")
    }
    parts = [f"{count} {kind}" for kind, count in counts.items() if count]
    others = sorted({change.kind for change in changes if change.kind in (*_LISTS, "clauses", *_BY_ID, "reordered")})
    parts += ["order changed" if kind == "reordered" else f"{kind} changed" for kind in others]
    if any(change.principle is None and change.kind == "reworded" for change in changes):
        parts.append("head changed")
    return "principles: " + ", ".join(parts)
