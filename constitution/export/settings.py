"""What an export is to be: its format, which rows, how they are cleaned and split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from constitution.errors import InputError
from constitution.export.formats import FORMATS, Format, confirm_of
from constitution.export.layouts import LAYOUTS, Layout, Task
from constitution.export.outcome import sha256
from constitution.identity import digest
from constitution.records import Run, StoredSource

SOME_FORMATS = tuple(dict.fromkeys(name for spec in FORMATS.values() for name in spec.settings))
"""Settings that mean something to some formats only."""


_REWARDS = "rewards are made by a run whose recipe has a section [reward]"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)
    """A field's docstring is what Prefect's form, `constitution export --help` and the card say of it."""


class Cleaning(_Section):
    """The cleaning steps. Each drops rows and says why; a step that is off drops none."""

    dedupe: Literal["off", "exact", "near"] = "near"
    """off keeps all rows; exact drops those that repeat another's conversation and answers; near also drops prompts
    whose user turns are nearly those of an earlier prompt."""
    near: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of the user turns' word 3-grams from which two prompts are near duplicates."""
    decontaminate: tuple[Path, ...] = ()
    """File of evaluation prompts that must not be trained on (JSONL, also .gz, Parquet, or text with one prompt a
    line): prompts that share 8-grams of words with one of them are dropped."""
    overlap: float = Field(default=0.5, gt=0, le=1)
    """Share of an evaluation prompt's words in shared 8-grams above which a prompt is contaminated (Tülu 3, arXiv
    2411.15124, section 3.2)."""
    min_words: int = Field(default=0, ge=0)
    """Least number of words of each answer."""
    max_words: int | None = Field(default=None, ge=1)
    """Largest number of words of each answer; None: any."""
    language: tuple[str, ...] = ()
    """Language that the chosen answer may be in, by its ISO 639-1 code; empty: any."""
    drop_refusals: bool = False
    """Drop rows whose chosen answer refuses a prompt with one of the tags `harmless_tag`."""
    harmless_tag: tuple[str, ...] = ("harmless", "looks-harmful")
    """Tag of prompts that ought to be answered."""
    boilerplate: float | None = Field(default=None, gt=0, le=1)
    """Drop rows whose chosen answer has a sentence that is in the chosen answers to more than this share of the
    prompts. None: off."""
    drop_private: bool = False
    """Drop rows with personal data or secrets in prompt or answers; needs the extra `clean`."""
    drop_broken: bool = False
    """Drop rows whose chosen answer loses by the votes of one of the principles."""


class Settings(_Section):
    format: str = Field(json_schema_extra={"enum": list(FORMATS)})
    """Which trainers read it: dpo, reward, robust, kto, sft, prm, grpo."""
    layout: str = Field(default="trl", json_schema_extra={"enum": list(LAYOUTS)})
    """Whose columns and files: trl, or those of another trainer's own reader. Not each has each format."""
    file_type: Literal["parquet", "jsonl"] | None = None
    """Type of the files; where it is not given, the layout's usual one."""
    rounds: Literal["last", "all"] | tuple[Annotated[int, Field(ge=0)], ...] = "last"
    """Rounds whose answers are taken, by number (0 is the initial answer), or last, or all. sft: last is each prompt's
    last answer with text, and all takes answers that came with the prompts too. Pairs: of the later answer; last and
    all take any."""
    principles: tuple[str, ...] = ()
    """Ids or tags of the principles that count; empty: all. Pairs are labelled again by their votes alone, answers of
    kto are scored by them, sft takes the revisions that they led to, and grpo lists them in each row."""
    profile: str = ""
    """Id of a profile of the run's constitution, by whose weights the stored votes are labelled; grpo lists its
    weights."""
    source: StoredSource | None = None
    """By what the rewards are that count; not given: the first of the recipe's reward.by. votes: what the labels of
    judge.pairs all or tournament say of each sample. kto: scores are these rewards, also where judges read the answers
    for their labels."""
    select: Literal["best", "reference"] | None = None
    """sft: best takes, in place of a round, of each prompt's group the answer with the highest reward, of equal ones
    that with the least id. reference: the prompt's reference, if it passed the run's check; no vote and no reward is
    of it."""
    above: float | None = Field(default=None, ge=-10, le=1)
    """sft: takes, in place of a round, the answers of each prompt's group whose reward is this or more; with select,
    the best if it is one of them."""
    unanimous: Literal["drop", "keep"] = "drop"
    """Groups whose rewards are all the same: select best finds no best answer in them, and they teach grpo nothing;
    keep takes the answer with the least id, and the prompt, also one without rewards."""
    min_margin: float = Field(default=0.0, ge=0, le=0.5)
    """Drop pairs with p_chosen under 0.5 + this."""
    min_agreement: float = Field(default=0.0, ge=0, le=1)
    """Drop pairs of which a smaller share of (judge, principle) prefers what the label prefers."""
    min_gap: float = Field(default=0.0, ge=0, le=11)
    """Drop pairs whose chosen answer's reward is not higher than the rejected one's by this or more."""
    consistent_only: bool = False
    """Drop pairs of which a judge preferred, under some principle, another answer when their order was swapped."""
    where: str = ""
    """Condition in SQL over the candidates' columns, e.g. list_contains(tags, 'harmless'); other rows are dropped."""
    labels: Literal["hard", "sampled"] = "hard"
    """dpo: sampled draws the chosen answer with probability p_chosen, after cleaning, so that a trainer that knows hard
    labels only sees the soft ones on average."""
    shards: int = Field(default=4, ge=1, le=32)
    """robust: number of groups of about equal size that pairs are sorted into by ε = 1 − p_chosen; each has the mean ε
    of its pairs, rounded to 0.01 and at most 0.49, and groups of one mean are one."""
    margin: Literal["log-odds", "gap"] | None = None
    """reward: what `margin` is. log-odds of p_chosen; gap: the chosen answer's reward less the rejected one's, and
    pairs whose rewards prefer the other answer are dropped. Not given: log-odds of labels by votes, gap of those by
    reward, and 0 of those by construction."""
    clip: float = Field(default=0.99, gt=0.5, lt=1)
    """reward: p_chosen counts as at most this in `margin`, its log-odds."""
    good: float = Field(default=0.5, gt=0, le=1)
    """kto, prm: least score of a good answer, or sentence, on [0, 1]."""
    bad: float | None = Field(default=None, ge=-10, le=1)
    """kto: an answer with a score under this is bad, and those between are dropped; not given: all that are not good
    are bad."""
    with_reasoning: bool = False
    """Give answers' messages `reasoning_content`, what the model thought before them; not for grpo."""
    test: float = Field(default=0.05, ge=0, lt=1)
    """Share of the conversations that go to the test split."""
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

    @field_validator("layout")
    @classmethod
    def _is_known_layout(cls, layout: str) -> str:
        if layout not in LAYOUTS:
            raise ValueError(f"{layout} is none of {', '.join(LAYOUTS)}")
        return layout

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        """What the layout's reader would refuse, or pass over."""
        title, tasks = self.layout_spec.title, self.layout_spec.tasks
        if self.format not in tasks:
            raise ValueError(f"layout {self.layout} has {', '.join(tasks)}: {title} has no task for {self.format}")
        if self.file_type and self.file_type not in self.task.files:
            raise ValueError(
                f"file-type: {title} reads {self.format} as {' or '.join(self.task.files)}, not {self.file_type}"
            )
        if self.with_reasoning and not self.task.reasoning:
            raise ValueError(f"with-reasoning: {title} does not read `reasoning_content`")
        return self

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        """A setting that the format has no use for is a mistake that must not pass in silence."""
        for name in SOME_FORMATS:
            if name not in self.spec.settings and getattr(self, name) != type(self).model_fields[name].default:
                formats = ", ".join(each for each, spec in FORMATS.items() if name in spec.settings)
                raise ValueError(f"{name.replace('_', '-')} is for {formats} alone, and the format is {self.format}")
        return self

    @model_validator(mode="after")
    def _chooses_in_one_way(self) -> Self:
        if (self.selects or self.select) and self.rounds != "last":
            raise ValueError("rounds: select and above take answers of whatever round")
        if self.select == "reference" and (self.above is not None or self.principles):
            raise ValueError("select: a reference has no reward, and is of no principle: without above and principles")
        if self.format == "sft" and self.unanimous == "keep" and self.select != "best":
            raise ValueError("unanimous: is for select best")
        if self.margin == "gap" and self.clip != type(self).model_fields["clip"].default:
            raise ValueError("clip: is for log-odds, and margin is the gap")
        if self.profile and self.principles:
            raise ValueError("profile: says what each principle's votes count: without principles")
        if self.bad is not None and self.bad > self.good:
            raise ValueError("bad: is above good, so that answers would be both")
        return self

    @property
    def selects(self) -> bool:
        """sft: whether answers are taken by their rewards."""
        return self.select == "best" or self.above is not None

    @property
    def tables(self) -> tuple[str, ...]:
        """A run must have rows in one of these."""
        if self.select == "reference":
            return ("reference_checks",)
        if self.selects or self.spec.source or (self.source and self.spec.scored):
            return ("rewards",)
        return (self.spec.table, "rewards") if self.spec.scored else (self.spec.table,)

    def source_of(self, run: Run) -> str | None:
        """By what the rewards are; None: the run has none, and none are asked for. Raises InputError where they are."""
        by = [*((run.recipe.get("reward") or {}).get("by") or ()), *(["votes"] if _by_votes(run) else [])]
        if (only := self.spec.source) and (only not in by or self.source not in (None, only)):
            hint = f'{self.format} is of answers that were read by {only}: reward.by = ["{only}"]'
            raise InputError(f"{run.run_id}: {self.format} takes rewards by {only}, and no other", hint=hint)
        if only:
            return only
        if self.source and self.source not in by:
            told = f"those by {', '.join(by)}" if by else "none"
            raise InputError(f"{run.run_id}: has no rewards by {self.source}, but {told}", hint=_REWARDS)
        if by in ([], ["votes"]) and not self.source:
            if self.selects or self.min_gap or self.margin_of(run) == "gap":
                hint = "--source votes takes those by the votes on its pairs" if by else _REWARDS
                raise InputError(f"{run.run_id}: has no rewards to choose by", hint=hint)
            return None
        return self.source or by[0]

    def margin_of(self, run: Run) -> str:
        """What the column `margin` is: log-odds, gap, or none; of other formats than reward none."""
        usual = {"votes": "log-odds", "reward": "gap"}.get(confirm_of(run.recipe), "none")
        return (self.margin or usual) if "margin" in self.spec.settings else "none"

    @property
    def spec(self) -> Format:
        return FORMATS[self.format]

    @property
    def layout_spec(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def task(self) -> Task:
        """What the layout makes of the format."""
        return self.layout_spec.tasks[self.format]

    @property
    def suffix(self) -> str:
        """How the files' names end, without the dot."""
        return self.file_type or self.task.files[0]

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


def _by_votes(run: Run) -> bool:
    """Whether its samples have rewards by votes."""
    pairs = (run.recipe.get("judge") or {}).get("pairs") or ()
    return confirm_of(run.recipe) == "votes" and not {"all", "tournament"}.isdisjoint(pairs)


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"--decontaminate {path}: cannot be read: {error.strerror}", hint="check the path") from None
