"""What each trainer documents of the rows that it reads, written from that documentation by itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Json


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Turn(Strict):
    role: Literal["system", "user", "assistant"]
    content: str


class Answer(Strict):
    role: Literal["assistant"]
    content: Annotated[str, Len(min_length=1)]


OneAnswer = Annotated[list[Answer], Len(1, 1)]


class OpenAIInput(Strict):
    messages: Annotated[list[Turn], Len(1, 2)]


class OpenAIPair(Strict):
    """Guide to direct preference optimization: conversations of one turn."""

    input: OpenAIInput
    preferred_output: OneAnswer
    non_preferred_output: OneAnswer


class OpenAITurn(Turn):
    weight: Literal[0, 1] = 1
    """Of assistant turns alone."""


class OpenAIExample(Strict):
    """Guide to supervised fine-tuning."""

    messages: Annotated[list[OpenAITurn], Len(min_length=2)]


class Loose(BaseModel):
    """A reader that passes over columns that it does not know."""

    model_config = ConfigDict(extra="allow", strict=True)


class Conversation(Loose):
    messages: Annotated[list[Turn], Len(min_length=1)]


class ListPair(Loose):
    messages: list[Turn]
    chosen: OneAnswer
    rejected: OneAnswer


class MessagePair(Loose):
    """LLaMA-Factory's data/README.md, ranking of ShareGPT; Axolotl's chat_template.default of DPO."""

    messages: list[Turn]
    chosen: Answer
    rejected: Answer


class LabelledConversation(Loose):
    messages: list[Turn]
    label: bool


class LearntTurn(Turn):
    training: bool


class LearntConversation(Loose):
    """Axolotl's docs/dataset-formats/conversation: `message_field_training`."""

    messages: list[LearntTurn]


class BradleyTerry(Loose):
    """Axolotl's bradley_terry.chat_template."""

    system: str
    input: str
    chosen: str
    rejected: str


class LabelledCompletion(Loose):
    """Axolotl's chatml.argilla_chat of KTO: the whole conversation."""

    completion: Annotated[list[Turn], Len(min_length=2)]
    label: bool


class Asked(Strict):
    """Ours."""

    rubric: list[dict[str, Any]] | None
    principles: list[dict[str, Any]]
    criteria: list[dict[str, Any]]


class VerlInfo(Strict):
    index: int
    split: Literal["train", "test"]
    prompt_id: str
    prompt: list[Turn]
    asked: Json[Asked]


class GroundTruth(Strict):
    style: Literal["rule", "model"]
    ground_truth: str


class VerlPrompt(Loose):
    """verl's docs/preparation/prepare_data."""

    data_source: str
    prompt: list[Turn]
    ability: str
    reward_model: GroundTruth
    extra_info: VerlInfo


class VerifiersTask(Loose):
    """Ours, of which the card's lines make a TaskData of verifiers.v1."""

    prompt: list[Turn]
    answer: str
    info: Json[Asked]


class PromptPair(Loose):
    prompt: list[Turn]
    chosen: OneAnswer
    rejected: OneAnswer


class WholePair(Loose):
    """OpenRLHF's RewardDataset without prompt_key: whole conversations, and a margin."""

    chosen: Annotated[list[Turn], Len(min_length=2)]
    rejected: Annotated[list[Turn], Len(min_length=2)]
    margin: float


class PromptCompletion(Loose):
    prompt: list[Turn]
    completion: OneAnswer


class LabelledPrompt(Loose):
    """OpenRLHF's PromptDataset: `label` goes to the reward function."""

    prompt: list[Turn]
    label: str
    datasource: str


class Prompted(Loose):
    prompt: list[Turn]


DOCUMENTED: dict[tuple[str, str], type[BaseModel]] = {
    ("messages", "dpo"): ListPair,
    ("messages", "robust"): ListPair,
    ("messages", "reward"): ListPair,
    ("messages", "sft"): Conversation,
    ("messages", "kto"): LabelledConversation,
    ("messages", "grpo"): Conversation,
    ("openai", "dpo"): OpenAIPair,
    ("openai", "sft"): OpenAIExample,
    ("openai", "grpo"): Conversation,
    ("llama-factory", "dpo"): MessagePair,
    ("llama-factory", "reward"): MessagePair,
    ("llama-factory", "sft"): Conversation,
    ("llama-factory", "kto"): LabelledConversation,
    ("axolotl", "dpo"): MessagePair,
    ("axolotl", "robust"): MessagePair,
    ("axolotl", "reward"): BradleyTerry,
    ("axolotl", "sft"): LearntConversation,
    ("axolotl", "kto"): LabelledCompletion,
    ("axolotl", "grpo"): Prompted,
    ("verl", "sft"): Conversation,
    ("verl", "grpo"): VerlPrompt,
    ("verifiers", "grpo"): VerifiersTask,
    ("openrlhf", "dpo"): PromptPair,
    ("openrlhf", "reward"): WholePair,
    ("openrlhf", "sft"): PromptCompletion,
    ("openrlhf", "grpo"): LabelledPrompt,
}
