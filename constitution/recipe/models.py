"""The sections of models: who answers and who judges, and what that costs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, StrictBool, field_validator, model_validator

from constitution.recipe.base import Count, JsonOnly, Section, Whole
from constitution.records import Method

NOT_OF_TEMPLATES = {
    *("add_generation_prompt", "chat_template", "continue_final_message", "conversation", "max_length", "messages"),
    *("padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "strftime_now", "tokenize"),
    *("tokenizer_kwargs", "truncation"),
}
"""Names that mean something else than a variable to transformers and to servers."""


NOT_OF_MESSAGES = {"messages", "seed", "stop", "stream", "system"}
"""Fields of a request's body that extra_body cannot set for Anthropic's Messages API."""


class Price(Section):
    """What a model costs, in the currency of the recipe's budget: by tokens, by the hour, or both."""

    input: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    cached: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens that the engine had in its prefix cache; None: as `input`."""
    output: float = Field(default=0.0, ge=0)
    """Price of a million tokens of output."""
    gpu_hour: float = Field(default=0.0, ge=0)
    """Price of one accelerator for an hour, paid for as long as the engine is open."""
    gpus: Count = 1
    """Accelerators that the engine holds."""

    @property
    def by_token(self) -> bool:
        """Whether tokens cost anything."""
        return bool(self.input or self.cached or self.output)


BATCH = 0.5
"""Part of the price that a request in a batch costs, at OpenAI, Anthropic and most who follow them (prices.sql has it
too)."""


class _Model(Section):
    price: Price | None = None
    """None: the model's use is counted and costs nothing."""
    family: str = ""
    """Models of one family (qwen, llama, …) are looked at for preferring their own; empty: not known."""
    method: Method | None = None
    """How a member of the jury votes. None: as `judge.method` says."""
    reasoning: Literal["auto", "keep", "off"] = "auto"
    """What the model thinks before it answers. auto: stored apart from the text. keep: left in the text. off: the model
    is asked not to, where there is a way to ask; what it thinks nevertheless is stored apart."""

    @property
    def bare(self) -> Self:
        """The section without its price, family and method of voting, which make no other model."""
        return self.model_copy(update={"price": None, "family": "", "method": None})

    @property
    def batched(self) -> bool:
        """Whether it is asked in batches, which cost half."""
        return False

    @property
    def paid(self) -> Price | None:
        """Its price, as it is paid."""
        if self.price is None or not self.batched:
            return self.price
        return self.price.model_copy(
            update={name: part * BATCH for name in ("input", "cached", "output") if (part := getattr(self.price, name))}
        )


class _Templated(_Model):
    """A model whose chat template can be spoken to."""

    chat_template_kwargs: dict[str, JsonOnly] = Field(default={})
    """Variables of the chat template: enable_thinking, reasoning_effort, date_string …"""
    template_date: date | None = None
    """The day that the chat template takes for today. None: that of the run's first start, as its record has it."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _of_the_template(cls, given: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(set(given) & NOT_OF_TEMPLATES):
            raise ValueError(f"{taken[0]} is no variable of chat templates but an argument of what renders them")
        return given

    @model_validator(mode="after")
    def _off_is_off(self) -> Self:
        on = [name for name in ("enable_thinking", "thinking") if self.chat_template_kwargs.get(name)]
        if self.reasoning == "off" and on:
            raise ValueError(f'reasoning is "off", and chat_template_kwargs.{on[0]} turns it on')
        return self


class TransformersModel(_Templated):
    """A model run in this process by `transformers`; `model` is a folder, a hub name, `pocket` or `pocket-scorer`."""

    engine: Literal["transformers"]
    model: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    max_batch: Count = 64
    """Sequences decoded together, at most."""


class VLLMModel(_Templated):
    """A model run by vLLM in this process; `model` is a folder, a hub name, `pocket` or `pocket-scorer`."""

    engine: Literal["vllm"]
    model: str
    revision: str | None = None
    adapter: str | None = None
    """Folder of a LoRA adapter. Sections that differ in the adapter alone share the base model in memory."""
    vllm: dict[str, JsonOnly] = Field(default={})
    """vLLM's engine arguments by their Python names: tensor_parallel_size, quantization, max_model_len …"""


Omitted = Literal[
    "add_generation_prompt", "cache_control", "cache_salt", "continue_final_message", "logprob_token_ids", "logprobs",
    "max_tokens", "priority", "return_tokens_as_token_ids", "seed", "stop", "temperature", "top_logprobs", "top_p",
]  # fmt: skip
"""Fields of a request's body that a recipe may leave out."""


class OpenAIModel(_Templated):
    """Any OpenAI-compatible server, or a fleet of them that serve the same model."""

    engine: Literal["openai"]
    model: str
    base_url: str | tuple[str, ...]
    """Up to and including /v1; a list of them is a fleet."""
    api_key_env: str = Field(default="", pattern=r"^([A-Z_][A-Z0-9_]{0,63})?$")
    """Name, in capitals, of the environment variable that holds the key; the key itself is never in a recipe."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Limit of one request, seconds."""
    retries: Whole = 6
    concurrency: Count = 256
    """Requests in flight, at most, per server."""
    dialect: Literal["auto", "vllm", "openai", "anthropic"] = "auto"
    """How an assistant prefix is continued: vllm sends continue_final_message, openai sends the prefix as the last
    message; auto asks the server what it is (docs/engines.md). anthropic: the Messages API in place of chat
    completions; never found by asking."""
    batch: StrictBool = False
    """Requests of runs go out in batches, which are answered within a day at half the price; `price` is that of a
    request alone."""
    batch_wait_s: float = Field(default=10.0, gt=0)
    """A batch goes out when so long no request came to it."""
    batch_poll_s: float = Field(default=30.0, gt=0)
    """The first wait between two looks at a batch; each is longer than the one before, up to ten times that."""
    extra_body: dict[str, JsonOnly] = Field(default={})
    """Further fields of the request body, as the server takes them."""
    omit: tuple[Omitted, ...] = ()
    """Fields that are not sent, for a server that refuses them: seed, priority …"""
    cache_salt: str = ""
    """vLLM only: requests share the server's prefix cache only with those of the same salt."""
    vllm: dict[str, JsonOnly] = Field(default={})
    """Engine arguments for `constitution serve`, which prints the command that starts the server; `model` among them
    names the weights where they have another name than what is served. The run itself does not use them."""

    @field_validator("base_url")
    @classmethod
    def _plain_addresses(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """Refused here and not when the engine opens: by then the recipe is in the run's record."""
        addresses = (given,) if isinstance(given, str) else given
        if not addresses:
            raise ValueError("no address, expected e.g. http://127.0.0.1:8000/v1")
        for address in addresses:
            _check_address(address)
        if len({address.rstrip("/") for address in addresses}) < len(addresses):
            raise ValueError("the same address is there twice")
        return given

    @model_validator(mode="after")
    def _batches_have_one_place(self) -> Self:
        if self.batch and len(self.base_urls) > 1:
            raise ValueError("batch: takes one base_url; a batch is worked where it was sent")
        return self

    @model_validator(mode="after")
    def _sent_or_not(self) -> Self:
        if both := sorted({*self.omit} & {*self.extra_body}):
            raise ValueError(f"omit: {both[0]} is in extra_body too; keep one of them")
        return self

    @model_validator(mode="after")
    def _of_the_api(self) -> Self:
        """Refused here are settings that the Messages API has not, or takes elsewhere."""
        if self.dialect != "anthropic":
            return self
        if self.chat_template_kwargs:
            raise ValueError("chat_template_kwargs: the Messages API has none; extra_body.thinking sets reasoning")
        if self.cache_salt:
            raise ValueError("cache_salt is vLLM's; the Messages API has none")
        if "max_tokens" in self.omit:
            raise ValueError("omit: the Messages API takes no request without max_tokens")
        if taken := sorted(NOT_OF_MESSAGES & self.extra_body.keys()):
            raise ValueError(f"extra_body.{taken[0]}: the Messages API has none, or the run sets it itself")
        if self.reasoning == "off" and "thinking" in self.extra_body:
            raise ValueError('reasoning is "off", which extra_body.thinking decides too; keep one of them')
        return self

    @model_validator(mode="after")
    def _template_is_told_once(self) -> Self:
        if self.chat_template_kwargs and "chat_template_kwargs" in self.extra_body:
            raise ValueError("chat_template_kwargs is in extra_body too; keep one of them")
        return self

    @property
    def batched(self) -> bool:
        return self.batch

    @property
    def omitted(self) -> frozenset[str]:
        """What is not sent: `omit`, and max_tokens where extra_body has it by another name."""
        return frozenset(self.omit) | ({"max_tokens"} if "max_completion_tokens" in self.extra_body else set())

    @property
    def logprobs(self) -> bool:
        """Whether its API has log-probabilities at all; not every server of such an API gives them."""
        return self.dialect != "anthropic"

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
    thoughts: int = Field(default=0, ge=0, le=1000)
    """Sentences that it thinks before each text that it writes."""
    echo: float = Field(default=0.0, ge=0, le=1)
    """Share of its texts in which it repeats the system turn and the thought that it was given, whole or by halves, in
    other case or spacing, in code, in bold, or as its thought."""
    verbosity: int = Field(default=0, ge=0, le=8)
    """Lines that say nothing, at most, in answers and revisions, some of them as markdown; they have nothing to do with
    how good the answer is."""


class GivenModel(_Model):
    """An engine that a Python program passes in place of the recipe's model (`Recipe.with_engines`)."""

    engine: Literal["given"]
    model: str
    about: dict[str, str] = Field(default={})
    """What the engine says determines its answers (`Engine.describe`)."""
    _engine: Any = PrivateAttr(default=None)


ModelSection = Annotated[
    TransformersModel | VLLMModel | OpenAIModel | FakeModel | GivenModel, Field(discriminator="engine")
]


def given(engine: Any) -> GivenModel:
    """The section of an Engine that is passed."""
    section = GivenModel(engine="given", model=engine.model, about=dict(engine.describe()))
    section._engine = engine
    return section


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Models(Section):
    policy: ModelSection
    pool: dict[Name, ModelSection] = Field(default={})
    """Further models that samplers ask, each by its name in `sample.NAME.model`."""
    judge: ModelSection | None = None
    """None: the policy judges itself."""
    jury: dict[Name, ModelSection] = Field(default={})
    """Several judges, each by the name that its votes bear, in place of `judge`."""
    reward_model: ModelSection | None = None
    """A scalar reward model, for the source `model` of [reward]; None: there is none."""

    @model_validator(mode="after")
    def _scores(self) -> Self:
        scorer = self.reward_model
        if isinstance(scorer, OpenAIModel) and (scorer.batch or scorer.dialect in ("anthropic", "openai")):
            raise ValueError("reward_model: of servers only vLLM's give scores, and not in batches")
        if scorer and scorer.method:
            raise ValueError("reward_model: method is for members of a jury")
        if scorer and scorer.price and scorer.price.by_token:
            raise ValueError("reward_model.price: its tokens are not counted; it is paid by gpu_hour")
        return self

    @property
    def judges(self) -> dict[str, ModelSection]:
        """Those who vote, by their name in the jury; empty: a judge alone, whose name its engine knows."""
        return self.jury or {"": self.judge or self.policy}

    @property
    def sections(self) -> dict[str, ModelSection]:
        """Those that are there, by their places below `model`: policy, judge, pool.<name>, jury.<name> …"""
        judge = {"judge": self.judge} if self.judge else {}
        pool = {f"pool.{name}": section for name, section in self.pool.items()}
        jury = {f"jury.{name}": section for name, section in self.jury.items()}
        scorer = {"reward_model": self.reward_model} if self.reward_model else {}
        return {"policy": self.policy} | judge | pool | jury | scorer

    @property
    def batched(self) -> bool:
        """Whether any of them is asked in batches."""
        return any(section.batched for section in self.roles.values())

    @property
    def roles(self) -> dict[str, ModelSection]:
        """By what each is called in messages and records: policy, `pool <name>`, judge or `judge <name>`, reward
        model."""
        pool = {f"pool {name}": section for name, section in self.pool.items()}
        judges = {f"judge {name}".rstrip(): each for name, each in self.judges.items()}
        scorer = {"reward model": self.reward_model} if self.reward_model else {}
        return {"policy": self.policy} | pool | judges | scorer

    def generator(self, name: str) -> ModelSection:
        """`policy`, `judge`, who judges alone, or a member of the pool."""
        if name == "judge":
            return self.judge or self.policy
        return self.policy if name == "policy" else self.pool[name]

    @property
    def alone(self) -> Self:
        """The same, every request sent alone."""

        def plain(section: ModelSection) -> ModelSection:
            return section.model_copy(update={"batch": False}) if section.batched else section

        return self._each(plain)

    def on(self, day: str) -> Self:
        """The same, with `day` (ISO 8601) for today in all chat templates that are not given another one."""
        return self._each(lambda section: dated(section, day))

    def _each(self, change: Callable[[ModelSection], ModelSection]) -> Self:
        """With every section changed."""
        pool = {name: change(section) for name, section in self.pool.items()}
        jury = {name: change(section) for name, section in self.jury.items()}
        judge, scorer = self.judge and change(self.judge), self.reward_model and change(self.reward_model)
        changed = {"policy": change(self.policy), "judge": judge, "jury": jury, "pool": pool, "reward_model": scorer}
        return self.model_copy(update=changed)


def dated(section: ModelSection, day: str) -> ModelSection:
    """The section with `day` as its template_date, if it has none; empty: as it is."""
    if not isinstance(section, _Templated) or section.template_date is not None or not day:
        return section
    return section.model_copy(update={"template_date": date.fromisoformat(day)})
