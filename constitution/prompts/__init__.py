"""Where prompts come from: JSONL, Parquet, transcripts, hub data sets, a SQL query; each read as a stream.

    for prompt in read_prompts(recipe.prompts, base=recipe_path.parent):
        ...

Nothing is guessed and nothing is dropped: a row that cannot be used is refused with its file, line and remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from constitution.errors import PromptError
from constitution.identity import Ids
from constitution.prompts.fields import Fields
from constitution.prompts.files import file_rows
from constitution.prompts.hub import hub
from constitution.prompts.keys import Keys
from constitution.prompts.row import Row
from constitution.prompts.sql import sql
from constitution.prompts.texts import user_texts
from constitution.prompts.transcripts import parse_transcript, split_answers
from constitution.reading import check_file
from constitution.recipe import PromptsSection
from constitution.records import Prompt

__all__ = ["parse_transcript", "read_prompts", "split_answers", "user_texts"]


def read_prompts(section: PromptsSection, base: Path, folders: Sequence[Path] = ()) -> Iterator[Prompt]:
    """The prompts of `section`, in the source's order; relative paths are looked up from `base`, the recipe's folder.

    folders: where a query may read files, besides `base`.
    Memory: one row or batch, and 24 to 48 bytes a prompt to tell repeated conversations apart (`Prompt.repeat`).
    Raises PromptError for the first row that cannot be used, and when there is none at all.
    """
    seen = Ids()
    repeats: dict[str, int] = {}
    count = 0
    fields = Fields(section)
    for row in islice(_rows(section, base, folders, fields.keys), section.limit):
        prompt = fields.prompt(row)
        if not seen.add(prompt.id):
            repeats[prompt.id] = repeats.get(prompt.id, 0) + 1
            prompt = replace(prompt, repeat=repeats[prompt.id])
        count += 1
        yield prompt
    if not count:
        raise PromptError(f"{_name(section)}: there are no prompts in it")
    if count != section.limit:
        fields.check_end(_name(section))


def _name(section: PromptsSection) -> str:
    return section.path or section.dataset or "prompts.query"


def _rows(section: PromptsSection, base: Path, folders: Sequence[Path], keys: Keys) -> Iterator[Row]:
    if section.format == "hub":
        return hub(section, base, keys)
    if section.format == "sql":
        return sql(section, base, (base, *folders), keys)
    path = base / (section.path or "")
    try:
        check_file(path, str(path), PromptError)
    except PromptError as error:
        raise PromptError(str(error), hint="correct prompts.path, or --set prompts.path=…") from None
    return file_rows(path, keys, section.format)
