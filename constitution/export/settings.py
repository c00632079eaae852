"""What an export is to be: its format, which rows, how they are cleaned and split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from constitution.errors import InputError
from constitution.export.formats import FORMATS, Format
from constitution.export.outcome import sha256
from constitution.identity import digest

SOME_FORMATS = tuple(dict.fromkeys(name for spec in FORMATS.values() for name in spec.settings))
"""Settings that mean something to some formats only."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)
    """A field's docstring is what Prefect's form, `constitution export --help` and the card say of it."""


class Cleaning(_Section):
    """The cleaning steps. Each drops rows and says why; a step that is off drops none."""

    dedupe: Literal["off", "exact", "near"] = "near"
    """exact: rows that repeat another's conversation and answers. near: also prompts whose user turns are nearly those
    of an earlier prompt."""
    near: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of the user turns' word 3-grams from which two prompts are near duplicates."""
    decontaminate: tuple[Path, ...] = ()
    """Files of prompts (JSONL, also .gz, Parquet, or text with one per line) that must not be trained on: evaluation
    sets. Compared by 8-grams of words of the user turns."""
    overlap: float = Field(default=0.5, gt=0, le=1)
    """Share of a test prompt's words inside shared 8-grams above which a prompt is contaminated (Tülu 3,
    arXiv 2411.15124, section 3.2)."""
    min_words: int = Field(default=0, ge=0)
    """Length of each answer, in words."""
    max_words: int | None = Field(default=None, ge=1)
    """The same; None: any number."""
    language: tuple[str, ...] = ()
    """ISO 639-1 codes that a chosen answer may be in; empty: any."""
    drop_refusals: bool = False
    """Drops rows whose chosen answer refuses a prompt that is tagged with one of `harmless_tag`."""
    harmless_tag: tuple[str, ...] = ("harmless", "looks-harmful")
    """Tags of prompts that ought to be answered."""
    boilerplate: float | None = Field(default=None, gt=0, le=1)
    """Drops rows whose chosen answer has a sentence that is in the chosen answers of more than this share of the
    prompts. None: off."""
    drop_private: bool = False
    """Drops rows with personal data or secrets in prompt or answers; needs the extra `clean`."""
    drop_broken: bool = False
    """Drops rows whose chosen answer still breaks a principle by its own votes."""


class Settings(_Section):
    format: str = Field(json_schema_extra={"enum": list(FORMATS)})
    """Which trainers read it: dpo, reward, robust, kto, sft, grpo."""
    rounds: Literal["last", "all"] | tuple[Annotated[int, Field(ge=0)], ...] = "last"
    """sft: whose answers; 0 is the initial answer, last each prompt's last with text, and only all has those that came
    with the prompts. Pairs: rounds that the later answer may be of; last and all: any."""
    principles: tuple[str, ...] = ()
    """Tags or ids. Pairs: labelled by these principles' votes alone; kto: scored by them. sft: revisions that one of
    them led to. grpo: those that the rows have. Empty: all."""
    min_margin: float = Field(default=0.0, ge=0, le=0.5)
    """Pairs with p_chosen under 0.5 + this are dropped."""
    min_agreement: float = Field(default=0.0, ge=0, le=1)
    """Pairs with less agreement of the votes are dropped."""
    consistent_only: bool = False
    """Pairs on which some judge did not prefer, under some principle, the same answer in both orders are dropped."""
    where: str = ""
    """A condition in SQL over the columns of `export.candidates`; others are dropped."""
    labels: Literal["hard", "sampled"] = "hard"
    """dpo. sampled: which answer is chosen is drawn with probability p_chosen, after cleaning, so that a trainer that
    knows hard labels only sees the soft ones in the mean."""
    shards: int = Field(default=4, ge=1, le=32)
    """robust: groups of pairs of about equal size, by ε = 1 − p_chosen; each has the mean of its pairs' ε, rounded to
    0.01 and at most 0.49. Those whose means round to the same are one."""
    clip: float = Field(default=0.99, gt=0.5, lt=1)
    """reward: `margin` is the log-odds of p_chosen, which is taken to be no larger than this."""
    good: float = Field(default=0.5, gt=0, lt=1)
    """kto: an answer is good from this pointwise score on, on [0, 1]."""
    with_reasoning: bool = False
    """All formats but grpo: an answer's message also has `reasoning_content`, what the model thought before it."""
    test: float = Field(default=0.05, ge=0, lt=1)
    """Share of the conversations whose rows go to the test split."""
    seed: int = Field(default=1, ge=0)
    """Seed of the split and of sampled labels."""
    cleaning: Cleaning = Cleaning()
    """Which rows are dropped before the split."""

    @field_validator("format")
    @classmethod
    def _is_known(cls, format: str) -> str:
        if format not in FORMATS:
            raise ValueError(f"{format} is none of {', '.join(FORMATS)}")
        return format

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        """A setting that the format has no use for is a mistake that must not pass in silence."""
        for name in SOME_FORMATS:
            if name not in self.spec.settings and getattr(self, name) != type(self).model_fields[name].default:
                formats = ", ".join(each for each, spec in FORMATS.items() if name in spec.settings)
                raise ValueError(f"{name.replace('_', '-')} is of {formats}, and the format is {self.format}")
        return self

    @property
    def spec(self) -> Format:
        return FORMATS[self.format]

    @property
    def export_id(self) -> str:
        """The format, and a digest of all that is asked for and is no default: of the files of test prompts their names
        and contents, for where they lie changes nothing. They are read each time. Raises InputError for one that cannot
        be read."""
        return f"{self.format}-{digest(self.as_json(exclude_defaults=True))[:12]}"

    def as_json(self, exclude_defaults: bool = False) -> dict[str, Any]:
        """The settings as a manifest has them."""
        data = self.model_dump(mode="json", exclude_defaults=exclude_defaults)
        if "decontaminate" in data.get("cleaning", ()):
            data["cleaning"]["decontaminate"] = [
                {"name": path.name, "sha256": _sha256(path)} for path in self.cleaning.decontaminate
            ]
        return data


@dataclass(frozen=True)
class CardOptions:
    """What only the person who exports can say."""

    license: str = ""
    """License of the data set: an identifier of the hub's, e.g. apache-2.0. Empty: unknown, and the card says so."""
    title: str = ""
    """Empty: made of the run's recipe and the format."""

    def __post_init__(self) -> None:
        if self.license and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", self.license):
            raise InputError(
                f"{self.license!r} is no identifier of a licence",
                hint="take the hub's, e.g. apache-2.0 or cc-by-4.0; `other` where it has none",
            )


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"--decontaminate {path}: cannot be read: {error.strerror}", hint="check the path") from None
