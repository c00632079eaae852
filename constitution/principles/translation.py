"""A translation beside its original: by ids and places, for every text of one is another in the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from constitution.principles.change import Change
from constitution.principles.lint import same
from constitution.principles.profiles import profile_changes
from constitution.principles.texts import Place, own_texts
from constitution.records import Constitution, Principle


def translation(a: Constitution, b: Constitution) -> tuple[Constitution, Constitution] | None:
    """(original, translation), where one of the two says that it translates a version of the other."""
    for original, translated in ((a, b), (b, a)):
        if translated.translation_of.partition("@")[0] == original.name and translated.name != original.name:
            return original, translated
    return None


def translation_changes(original: Constitution, translated: Constitution) -> list[Change]:
    """What is missing, extra or still in the original's words, and where weights, tags or order differ, in the
    original's order. Empty: all is translated."""
    changes = []
    if translated.translation_of != original.label:
        changes.append(Change("outdated", None, "translation_of", original.label, translated.translation_of))
    before, after = own_texts(original), own_texts(translated)
    ours = {principle.id: principle for principle in original.principles}
    theirs = {principle.id: principle for principle in translated.principles}
    changes += _texts(None, before, after)
    for id, principle in ours.items():
        if id not in theirs:
            changes.append(Change("missing", id, "", _gist(principle), ""))
            continue
        changes += _texts(id, before, after)
        changes += _settings(principle, theirs[id])
    changes += [Change("extra", id, "", "", _gist(principle)) for id, principle in theirs.items() if id not in ours]
    changes += profile_changes(original, translated, words=False)
    orders = [", ".join(id for id in mine if id in others) for mine, others in ((ours, theirs), (theirs, ours))]
    return changes + ([Change("reordered", None, "principles", *orders)] if orders[0] != orders[1] else [])


def _texts(principle: str | None, before: Mapping[Place, str], after: Mapping[Place, str]) -> Iterator[Change]:
    """One change for each text, or for each exemplar, example or criterion that is not there at all."""
    mine, theirs = (
        {place: text for (id, place), text in texts.items() if id == principle} for texts in (before, after)
    )
    for kind, ones, others in (("missing", mine, theirs), ("extra", theirs, mine)):
        whole = {_item(place) for place in others}
        seen = set()
        for place, text in ones.items():
            named = place if _item(place) in whole else _item(place)
            if place not in others and named not in seen:
                seen.add(named)
                yield (
                    Change("missing", principle, named, text, "")
                    if kind == "missing"
                    else Change("extra", principle, named, "", text)
                )
    for place, text in mine.items():
        if place in theirs and same(text, theirs[place]) and any(map(str.isalpha, text)):
            yield Change("untranslated", principle, place, text, theirs[place])


def _item(place: str) -> str:
    return place.partition(",")[0]


def _settings(original: Principle, translated: Principle) -> Iterator[Change]:
    if original.weight != translated.weight:
        yield Change("reweighted", original.id, "weight", f"{original.weight!r}", f"{translated.weight!r}")
    if original.tags != translated.tags:
        yield Change("retagged", original.id, "tags", ", ".join(original.tags), ", ".join(translated.tags))
    for number, (mine, theirs) in enumerate(zip(original.criteria, translated.criteria, strict=False), 1):
        for name in ("good", "weight"):
            if (was := getattr(mine, name)) != (now := getattr(theirs, name)):
                yield Change("criteria", original.id, f"criteria #{number}, {name}", str(was), str(now))


def _gist(principle: Principle) -> str:
    """One of its texts, to know it by."""
    texts = (principle.comparison_question, principle.critique_request, principle.aim)
    return next(filter(None, texts), "")
