"""Templates of a project's own, in another language or other words: a folder `templates/NAME` beside `principles/`.

    wording = read_wording(project, "german")
    wording.of(templates.JUDGE)                    # the same files, in the project's words

A set is taken whole or refused: a file that is missing is never the English one in silence. Labels, grades and verdicts
are read by code and stay as they are; so do placeholders, and the marks that part what is shown from what is asked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from constitution.errors import RecipeError
from constitution.reading import text_of
from constitution.records import Constitution
from constitution.templates import SETS, SPEAKERS, TemplateSet, read_text, speakers_of

FOLDER = "templates"

NAMES = tuple(sorted({SPEAKERS, *(name for texts in SETS for name in texts.texts)}))
"""Files of a whole folder."""

_KEPT = {
    "vote.txt": ("(A)", "(B)"),
    "rationale.txt": ("(A)", "(B)"),
    "rubric.txt": ("(Y)", "(N)"),
    "rubric-negated.txt": ("(Y)", "(N)"),
    "score.txt": ("(1)", "(9)"),
    "score-20.txt": ("(A)", "(T)"),
    "write-json.txt": tuple(map('"{}"'.format, ("question", "good", "weight", "kind", "yes", "no", "pitfall"))),
    "write-xml.txt": ("<rubric>", "<item good=", "weight=", "kind=", "</item>", "</rubric>"),
    "verdict.txt": ("Verdict: A", "Verdict: B", "Verdict: tie"),
}
"""What is read by code, and must be in the text as it is."""
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_SHOWN = ("conversation", "first", "second", "answer")
"""What people and models wrote: alone between two marks, once."""


@dataclass(frozen=True, eq=False)
class Wording:
    """The templates that a recipe names."""

    name: str
    """Folder in `templates/`; empty: the package's own."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The files that are there."""
    _sets: dict[TemplateSet, TemplateSet] = field(default_factory=dict)

    def of(self, english: TemplateSet) -> TemplateSet:
        """The set of the package, in these words. Raises RecipeError for a file that is missing or cannot be used."""
        if not self.name:
            return english
        if english not in self._sets:
            self._sets[english] = self._made(english)
        return self._sets[english]

    def _made(self, english: TemplateSet) -> TemplateSet:
        names = list(english.texts)
        if any("{{conversation}}" in text for text in english.texts.values()):
            names.append(SPEAKERS)
        for name in names:
            if name not in self.texts:
                raise RecipeError(f"{self._place(name)}: is missing{self._near(name)}", hint=self._remedy)
            for fault in faults(name, self.texts):
                raise RecipeError(f"{self._place(name)}: {fault}", hint="`constitution principles check` lists all")
        same = self.texts.get(SPEAKERS) == read_text(SPEAKERS)
        return TemplateSet({name: self.texts[name] for name in names if name != SPEAKERS or not same})

    def _place(self, name: str) -> str:
        return f"{FOLDER}/{self.name}/{name}"

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, [each for each in self.texts if each not in NAMES], n=1)
        return f" ({near[0]} is there)" if near else ""

    @property
    def _remedy(self) -> str:
        return f"`constitution principles templates {self.name}` writes the missing files in English, to translate"


ENGLISH = Wording("")


def mixed(constitution: Constitution, wording: Wording, used: Collection[str] = NAMES) -> str:
    """A sentence where the constitution is not English and the texts around its words are; empty: they go together, or
    the texts are the project's own words, whose language is not known. used: the files that matter."""
    left = [name for name in _untranslated(wording) if name in used]
    if not left or constitution.language.partition("-")[0].casefold() in ("", "en"):
        return ""
    said = f"{constitution.label} is in {constitution.language}, and the texts around its words are English"
    return said + (f" in {FOLDER}/{wording.name}: {', '.join(left)}" if wording.name else "")


def _untranslated(wording: Wording) -> list[str]:
    """Files that are the English text: all, where no folder is named."""
    return [name for name in NAMES if not wording.name or wording.texts.get(name) == read_text(name)]


def read_wording(project: Path, name: str) -> Wording:
    """All files of `templates/<name>` in the project's folder, line ends as \\n and without the last.

    Raises RecipeError where there is no such folder."""
    folder = project / FOLDER / name
    if not folder.is_dir():
        there = sorted(path.name for path in (project / FOLDER).glob("*") if path.is_dir())
        raise RecipeError(
            f"templates: there is no folder {FOLDER}/{name}" + (f"; there are: {', '.join(there)}" if there else ""),
            hint=f"`constitution principles templates {name}` writes one, with the English texts to translate",
        )
    paths = sorted(folder.glob("*.txt"))
    read = {path.name: text_of(path, f"{FOLDER}/{name}/{path.name}", RecipeError) for path in paths}
    return Wording(name, {file: text.replace("\r\n", "\n").removesuffix("\n") for file, text in read.items()})


def start_wording(project: Path, name: str) -> tuple[list[str], list[str]]:
    """Writes the package's texts into `templates/<name>`, to be translated; files that are there are left as they are.
    The files written, and those left. Raises RecipeError for what is no name of a folder."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name):
        raise RecipeError(f"{name}: a folder's name is lower-case letters, digits and hyphens")
    folder = project / FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    left = [each for each in NAMES if (folder / each).exists()]
    written = [each for each in NAMES if each not in left]
    for each in written:
        with (folder / each).open("x", encoding="utf-8", newline="\n") as file:
            file.write(read_text(each) + "\n")
    return written, left


def check_wordings(project: Path) -> tuple[list[str], list[str]]:
    """What is wrong with the files in the project's `templates/`, and what should be known of them: files that are
    missing, which a run that needs them is refused for, and those that are still the English text."""
    wrong, known = [], []
    for folder in sorted(path for path in (project / FOLDER).glob("*") if path.is_dir()):
        try:
            wording = read_wording(project, folder.name)
        except RecipeError as error:
            wrong.append(str(error))
            continue
        place = f"{FOLDER}/{folder.name}"
        for name in wording.texts:
            if name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, n=1)
                wrong.append(f"{place}/{name}: is no template{f'; did you mean {near[0]}?' if near else ''}")
                continue
            wrong += [f"{place}/{name}: {fault}" for fault in faults(name, wording.texts)]
        english = _untranslated(wording)
        missing = [name for name in NAMES if name not in wording.texts]
        if english:
            known.append(f"{place}: not translated, for they are the English text: {', '.join(english)}")
        if missing:
            known.append(f"{place}: missing, so that a run that needs them is refused: {', '.join(missing)}")
    return wrong, known


def stored_wording(name: str, sets: Mapping[str, Mapping[str, str]]) -> Wording:
    """As a run has it: `Run.templates`, the texts of its sets by their digests."""
    return Wording(name, {SPEAKERS: read_text(SPEAKERS), **{k: v for texts in sets.values() for k, v in texts.items()}})


def faults(name: str, texts: Mapping[str, str]) -> Iterator[str]:
    """Why one of a folder's `texts` cannot take the place of the package's."""
    text, english = texts[name], read_text(name)
    if not text.strip():
        yield "is empty"
        return
    if name == SPEAKERS:
        yield from _speaker_faults(text)
        return
    yield from _placeholder_faults(text, english)
    for each in _KEPT.get(name, ()):
        if each not in text:
            yield f"does not hold {each!r}, which is read as it is and is not translated"
    if name.endswith("-prefix.txt") and not text.endswith("("):
        yield f"ends in {text[-10:]!r} and must end in (, for the label that follows is one token"
    ending = texts.get("vote-prefix.txt")
    if name == "rationale.txt" and ending and not all(f"{ending}{label})" in text for label in "AB"):
        yield f"does not ask for {ending + 'A)'!r} and {ending + 'B)'!r}, as vote-prefix.txt begins the judge's choice"


def _placeholder_faults(text: str, english: str) -> Iterator[str]:
    needed, there = set(_PLACEHOLDER.findall(english)), set(_PLACEHOLDER.findall(text))
    known = f"there are {', '.join(f'{{{{{each}}}}}' for each in sorted(needed))}" if needed else "it has none"
    for each in sorted(there - needed):
        yield f"the placeholder {{{{{each}}}}} does not exist here; {known}"
    for each in sorted(needed - there):
        yield f"the placeholder {{{{{each}}}}} is missing"
    if found := re.search(r"\{\{|\}\}", _PLACEHOLDER.sub("", text)):
        yield f"{found.group()!r} is part of no placeholder; they are written without blanks, as {{{{question}}}}"
    for each in (each for each in _SHOWN if each in needed & there):
        label = {"first": "A", "second": "B"}.get(each, "")
        mark = f"[answer {label} {{{{nonce}}}}]" if label else "[answer {{nonce}}]"
        if text.count(f"{{{{{each}}}}}") > 1 or not re.search(_framed(each, label), text):
            yield (
                f"{{{{{each}}}}} must be there once, alone on its line, between two marks such as {mark} and "
                "[end {{nonce}}], which part what is shown from what is asked"
            )


def _framed(shown: str, label: str) -> str:
    """A mark that ends in `label`, the shown text, another mark; a mark ends in a letter before the nonce."""
    opening, closing = (rf"\[[^\[\]\n{{}}]*{last}\s*\{{\{{nonce\}}\}}\]" for last in (_last(label), r"\w"))
    return rf"{opening}\n\{{\{{{shown}\}}\}}\n{closing}"


def _last(label: str) -> str:
    return rf"(?<![A-Za-z]){label}" if label else r"\w"


def _speaker_faults(text: str) -> Iterator[str]:
    try:
        names = speakers_of(text)
    except KeyError as missing:
        yield f"has no line `{missing.args[0]}: …`; it has a line each for system, user and assistant"
        return
    if len(text.splitlines()) != len(names) or not all(names) or len({*map(str.casefold, names)}) < len(names):
        yield "has a line each for system, user and assistant, with three different names"
    if any(":" in name for name in names):
        yield "a name holds a colon, which follows it in a conversation"
