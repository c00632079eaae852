"""A recipe: one TOML file that says all of a run: prompts, models, revise, judge, output.

    recipe = load_recipe(Path("recipes/pocket.toml"), overrides=["revise.rounds=4"])

Unknown fields are refused, with the nearest name. A relative `prompts.path` or `prompts.dataset` is relative to the
recipe's file; one given by --set is relative to the working directory, as in any other command.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.types import GetPydanticSchema, JsonValue

from constitution.errors import RecipeError
from constitution.overrides import FORMATS, apply, source_of
from constitution.reading import toml_of
from constitution.records import Infraction, Method, Sampling
from constitution.secrets import key_in

Whole = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
JsonOnly = Annotated[Any, GetPydanticSchema(lambda _, schema: schema.generate_schema(JsonValue))]
"""No dates, NaN or infinity, which TOML has: a run's record is JSON."""


class _Section(BaseModel):
    # Values stay out of pydantic's own messages: one may be a key that was put where none belongs.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class SamplingSection(_Section):
    temperature: float = Field(default=1.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Count = 512
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end the output; an empty one would end it before it begins."""

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.stop)


class Price(_Section):
    """What a model costs, in the currency of the recipe's budget: by tokens, by the hour, or both."""

    input: float = Field(default=0.0, ge=0)
    """Of a million prompt tokens."""
    cached: float | None = Field(default=None, ge=0)
    """Of a million prompt tokens that the engine had in its prefix cache; None: as `input`."""
    output: float = Field(default=0.0, ge=0)
    """Of a million tokens of output."""
    gpu_hour: float = Field(default=0.0, ge=0)
    """Of one accelerator for an hour, paid for as long as the engine is open."""
    gpus: Count = 1
    """Accelerators that the engine holds."""


class _Model(_Section):
    price: Price | None = None
    """None: the model's use is counted and costs nothing."""
    family: str = ""
    """Models of one family (qwen, llama, …) are looked at for preferring their own; empty: not known."""

    @property
    def bare(self) -> Self:
        """The section without its price and family, which make no other model."""
        return self.model_copy(update={"price": None, "family": ""})


class TransformersModel(_Model):
    """A model run in this process by `transformers`; `model` is a folder, a hub name, `pocket` or `pocket-scorer`."""

    engine: Literal["transformers"]
    model: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    max_batch: Count = 64
    """Sequences decoded together at the most."""


class VLLMModel(_Model):
    """A model run by vLLM in this process; `model` is a folder, a hub name, `pocket` or `pocket-scorer`."""

    engine: Literal["vllm"]
    model: str
    revision: str | None = None
    adapter: str | None = None
    """Folder of a LoRA adapter. Sections that differ in the adapter alone share the base model in memory."""
    vllm: dict[str, JsonOnly] = {}
    """vLLM's engine arguments by their Python names: tensor_parallel_size, quantization, max_model_len …"""


class OpenAIModel(_Model):
    """Any OpenAI-compatible server, or a fleet of them that serve the same model."""

    engine: Literal["openai"]
    model: str
    base_url: str | tuple[str, ...]
    """Up to and including /v1; a list of them is a fleet."""
    api_key_env: str = Field(default="", pattern=r"^([A-Z_][A-Z0-9_]{0,63})?$")
    """Name, in capitals, of the environment variable that holds the key; the key itself never stands in a recipe."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Of one request."""
    retries: Whole = 6
    concurrency: Count = 256
    """Requests in flight at the most, per server."""
    dialect: Literal["auto", "vllm", "openai"] = "auto"
    """How an assistant prefix is continued: vllm sends continue_final_message, openai sends the prefix as the last
    message; auto asks the server what it is (docs/engines.md)."""
    extra_body: dict[str, JsonOnly] = {}
    """Further fields of the request body, as the server takes them."""
    cache_salt: str = ""
    """vLLM only: requests share the server's prefix cache only with those of the same salt."""
    vllm: dict[str, JsonOnly] = {}
    """Engine arguments for `constitution serve`, which prints the command that starts the server; `model` among them
    names the weights where they have another name than what is served. The run itself does not use them."""

    @field_validator("base_url")
    @classmethod
    def _plain_addresses(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """Refused here and not when the engine opens: by then the recipe stands in the run's record."""
        addresses = (given,) if isinstance(given, str) else given
        if not addresses:
            raise ValueError("no address, expected e.g. http://127.0.0.1:8000/v1")
        for address in addresses:
            _check_address(address)
        if len({address.rstrip("/") for address in addresses}) < len(addresses):
            raise ValueError("the same address stands there twice")
        return given

    @property
    def base_urls(self) -> tuple[str, ...]:
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url


def _check_address(address: str) -> None:
    """Raises ValueError for what is no plain http(s) address."""
    try:
        url = urlsplit(address)
        host, _ = url.hostname, url.port  # a wrong port raises when it is read
    except ValueError:
        host = None
    if host is None or url.scheme not in ("http", "https"):
        raise ValueError("not an http(s) address, expected e.g. http://127.0.0.1:8000/v1")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("carries credentials or a query; name the key's variable in api_key_env")


class FakeModel(_Model):
    """The engine that needs no model: deterministic text and votes, for trying recipes out."""

    engine: Literal["fake"]
    model: str = "fake"
    latency_s: float = Field(default=0.0, ge=0)
    failure_rate: float = Field(default=0.0, ge=0, le=1)
    """Share of the requests that fail."""
    position_bias: float = Field(default=0.0, ge=-5, le=5)
    """Added to the logit of the answer shown first."""
    length_bias: float = Field(default=0.0, ge=-50, le=50)
    """Logits for each unit of the length difference (first − second) / (first + second), in tokens. An answer that is
    judged alone is compared with one of 60 tokens and no markdown."""
    style_bias: float = Field(default=0.0, ge=-50, le=50)
    """Logits for each unit of the differences in headers, lists and bold, as the audit measures them."""
    noise: float = Field(default=1.0, ge=0, le=20)
    """Half the width, in logits, of a vote's uniform noise."""
    accuracy: float | dict[str, Annotated[float, Field(ge=0, le=1)]] = 1.0
    """Probability that a vote looks at what is better and not at its opposite, in both orders alike; per principle, by
    any words of its comparison question (the first that occur in it count), or "*" for all others."""
    verbosity: int = Field(default=0, ge=0, le=8)
    """Answers and revisions get up to so many lines that say nothing, some of them as markdown; they have nothing to do
    with how good the answer is."""


ModelSection = Annotated[TransformersModel | VLLMModel | OpenAIModel | FakeModel, Field(discriminator="engine")]


class Models(_Section):
    policy: ModelSection
    judge: ModelSection | None = None
    """None: the policy judges itself."""
    jury: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")], ModelSection] = {}
    """Several judges, each by the name that its votes bear, in place of `judge`."""
    placement: Literal["auto", "together", "turns"] = "auto"
    """Two different vLLM models on the same accelerator: both in its memory, or in turns, the other one asleep. auto:
    together where both fit."""


class PromptsSection(_Section):
    path: str | None = None
    """A file: JSONL (also .gz) or Parquet; needed for every format but `hub` and `sql`."""
    format: Literal["auto", "jsonl", "parquet", "transcripts", "hub", "sql"] = "auto"
    """auto: JSONL or Parquet, by the file's name."""
    field: str = "prompt"
    """Column or key that holds the prompt: a string, or a list of {role, content}; `messages` is tried next. For
    transcripts: the key that holds the transcript."""
    dataset: str | None = None
    """Hub data set (format hub), loaded by the `datasets` package; or a local folder of JSONL or Parquet files."""
    split: str = "train"
    query: str | None = None
    """SQL (format sql) with a column named as `field`; file names in it are relative to the recipe's folder."""
    answers: tuple[str, ...] = ()
    """Keys that hold given answers, to be judged as they are; for transcripts: keys of whole transcripts."""
    gold: str | None = None
    """Which of `answers` people prefer."""
    families: dict[str, str] = {}
    """Key of an answer → family of the model that wrote it, where that is known."""
    tags: tuple[str, ...] = ()
    """Tags for all of them."""
    tags_field: str | None = None
    """Column or key that holds a row's own tags, a list of texts; they follow `tags`."""
    limit: Count | None = None
    """The first so many; None: all."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        source = source_of(self.format)
        if not getattr(self, source):
            raise ValueError(f"format {self.format} needs `{source}`")
        for other in FORMATS:
            if other != source and getattr(self, other):
                raise ValueError(f"format {self.format} reads `{source}`, and has no use for `{other}`")
        if self.gold is not None and self.gold not in self.answers:
            raise ValueError(f"gold: {self.gold!r} is not one of `answers`")
        if unknown := set(self.families) - set(self.answers):
            raise ValueError(f"families: {min(unknown)!r} is not one of `answers`")
        return self


class ReviseSection(_Section):
    rounds: int = Field(default=2, ge=0, le=32)
    principles: tuple[str, ...] = ()
    """Tags or ids to draw from; empty: all that revise."""
    exemplars: Whole = 2
    """Few-shot exemplars shown before critique and revision, at the most."""
    initial: SamplingSection = SamplingSection()
    critique: SamplingSection = SamplingSection()
    revision: SamplingSection = SamplingSection()


class InfractionsSection(_Section):
    share: float = Field(default=0.1, gt=0, le=1)
    """Of the prompts, drawn by the seed, whose last answer the policy spoils on purpose, for the judges to see."""
    kinds: tuple[Infraction, ...] = Field(default=("polished", "terse", "sarcastic"), min_length=1)
    sampling: SamplingSection = SamplingSection()


class JudgeSection(_Section):
    method: Method = "label"
    """label: the labels' probabilities, at once. rationale: the judge reasons first. score: it gives each answer a
    grade. rubric: it goes through the principle's checklist for each answer."""
    rationale: SamplingSection = SamplingSection(temperature=0.0)
    """Of method rationale: how the reasoning is written; temperature 0 is greedy."""
    clamp: tuple[Annotated[float, Field(ge=0, le=0.5)], Annotated[float, Field(ge=0.5, le=1)]] = (0.4, 0.6)
    """Of method rationale: a vote counts as no less and no more than this (arXiv 2212.08073, section 4.1)."""
    repeats: int = Field(default=1, ge=1, le=32)
    """Each vote is asked for so many times, with other seeds."""
    quorum: Count | None = None
    """A pair is labelled, whoever else fails, once so many judges have cast all their votes on it. None: of a jury,
    more than half; a judge alone is waited for."""
    aggregate: Literal["mean", "majority", "dawid-skene"] = "mean"
    """How the couples of votes make a label."""
    control: Literal["off", "length", "style"] = "off"
    """What is taken out of the votes before they make a label: the effect of length, or of length and markdown."""
    calibrate: Literal["off", "temperature", "isotonic"] = "off"
    """How labels are fitted to the gold labels that there are, each half of the prompts by the other."""
    infractions: InfractionsSection | None = None
    """None: no answer is spoiled."""
    principles: Literal["all"] | Count = "all"
    """Principles that vote on a pair: all that compare, or so many, drawn per pair without replacement."""
    only: tuple[str, ...] = ()
    """Tags or ids to choose from; empty: all that compare."""
    pairs: tuple[Literal["first-last", "parent", "given"], ...] = ("first-last",)
    margin: float = Field(default=0.0, ge=0, le=0.5)
    """A pair whose p_chosen is under 0.5 + margin is kept in the table and marked dropped."""
    min_label_mass: float = Field(default=0.0, ge=0, le=1)
    """A vote with less probability on the labels counts as missing."""


class BudgetSection(_Section):
    limit: float = Field(gt=0)
    """A run takes up no more prompts once those done and in flight will have cost so much."""
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """Of the limit and of all prices; a name only."""


class OutputSection(_Section):
    slice: Count | None = None
    """Prompts to a slice: the unit of a Prefect task. None: 500, or more where there would be over 200 slices."""
    window: Count = 256
    """Prompts in flight at the most, over all slices."""
    flush_rows: Count = 20_000
    flush_seconds: float = Field(default=5.0, gt=0)
    """Finished rows wait so long at the most before they are on disk."""
    stop_at_failures: float = Field(default=0.5, gt=0, le=1)
    """A start ends once engines failed more than this share of the last prompts; 1: never."""


class Recipe(_Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    seed: Whole = 1
    constitution: str
    """name@version, looked up in the project's principles/ folder."""
    prompts: PromptsSection
    model: Models
    revise: ReviseSection = ReviseSection()
    judge: JudgeSection | None = None
    """Absent: no votes."""
    output: OutputSection = OutputSection()
    budget: BudgetSection | None = None
    """Absent: no limit."""
    _given: frozenset[str] = frozenset()

    def given(self, key: str) -> bool:
        """Whether --set gave `key`, as a.b.c, or a section that it is in: the user's own word."""
        return any(f"{key}.".startswith(f"{each}.") for each in self._given)

    @model_validator(mode="after")
    def _pairs_exist(self) -> Self:
        if self.model.jury and self.model.judge:
            raise ValueError("model: has a judge and a jury; name the judge among the jury")
        if self.judge and (self.judge.quorum or 1) > max(len(self.model.jury), 1):
            raise ValueError("judge.quorum: more than there are judges")
        pairs = self.judge.pairs if self.judge else ()
        if self.revise.rounds == 0 and {"first-last", "parent"} & set(pairs):
            raise ValueError("judge.pairs: first-last and parent need revise.rounds of 1 or more")
        if "given" in pairs and len(self.prompts.answers) < 2:
            raise ValueError("judge.pairs: given needs two or more keys in prompts.answers")
        return self

    @model_validator(mode="after")
    def _budget_has_prices(self) -> Self:
        sections = [self.model.policy, self.model.judge, *self.model.jury.values()]
        if self.budget and not any(section and section.price for section in sections):
            raise ValueError("budget: without a price of any model ([model.policy.price]) nothing counts towards it")
        return self


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with `overrides` of the form a.b=c (constitution/overrides.py)."""
    data = toml_of(path, str(path), RecipeError)
    apply(data, overrides)
    if place := key_in(data):
        raise RecipeError(f"{path}: {place}: a key does not stand in a recipe", hint="name its variable in api_key_env")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_first_fault(error)}") from None
    recipe._given = frozenset(override.partition("=")[0] for override in overrides)
    return recipe


def _first_fault(error: ValidationError) -> str:
    """One fault as a phrase: place, what is wrong, and for an unknown name the nearest known one. Unknown names come
    first: a missing field is often one that was misspelt."""
    faults = error.errors(include_url=False)
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    words = [str(part) for part in fault["loc"]]
    if words[:1] == ["model"]:
        # After the section's name pydantic says the engine's, which is no part of the way to the field.
        engine = 3 if words[1:2] == ["jury"] else 2
        del words[engine : engine + 1]
    place = ".".join(words)
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        return (f"{place}: " if place else "") + message[0].lower() + message[1:]
    near = difflib.get_close_matches(str(fault["loc"][-1]), _all_field_names(), n=1)
    return f"{place}: unknown field" + (f"; did you mean {near[0]}?" if near else "")


def _all_field_names() -> list[str]:
    sections: list[type[BaseModel]] = [Recipe, Models, PromptsSection, ReviseSection, JudgeSection, OutputSection]
    sections += [InfractionsSection, SamplingSection, BudgetSection, Price, *get_args(get_args(ModelSection)[0])]
    return [name for section in sections for name in section.model_fields]
