"""Loading a scalar reward model: a sequence classification of one label, whose every weight is in its safetensors.

transformers makes up at random what a file lacks, with a warning and no error: a causal model that is loaded so gives
numbers that look like rewards. So whatever is missing, is left over, or would be code refuses the model here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.engines.chat import ChatTokenizer
from constitution.engines.spoken import Spoken
from constitution.engines.weights import find, first_line, folder_digest, load_tokenizer, short_name
from constitution.errors import ContextTooLong, ModelLoadError, RequestRefused
from constitution.recipe import TransformersModel
from constitution.records import Message, Messages

HEAD = "ForSequenceClassification"
LEFT_OVER = ("lm_head.",)
BUFFERS = ("rotary_emb.inv_freq", "attn.masked_bias", "attention.masked_bias", "attention.bias", "position_ids")
"""Beginnings and ends of the names of what is in some reward models' files and decides no score: the head of the model
that they were trained from, and what older versions of transformers stored of the settings."""
_PROBE = (Message("user", "hello"), Message("assistant", "PROBETEXT"))


class ScoreTokenizer:
    """Conversations as a reward model reads them: its chat template without the header of a further turn, which writes
    the beginning token, so that the tokenizer adds none."""

    def __init__(self, tokenizer: Any, name: str, spoken: Spoken, context: int) -> None:
        """context: tokens that the model takes. Raises ModelLoadError for a chat template that cannot be scored by."""
        self._chat, self._name, self._context = ChatTokenizer(tokenizer, name, spoken), name, context
        try:
            tokens = self._chat.closed(_PROBE)
        except RequestRefused as error:
            raise ModelLoadError(str(error)) from None
        if "PROBETEXT" not in self._chat.decode(tokens):
            raise ModelLoadError(f"{name}: its chat template drops an assistant's last turn, which is scored")
        first = getattr(tokenizer, "cls_token_id", None)
        if first is not None and first != getattr(tokenizer, "bos_token_id", None) and tokens[0] != first:
            raise ModelLoadError(
                f"{name}: the score is read at {tokenizer.cls_token}, with which its chat template does not begin",
                hint="use the chat template that it was trained with",
            )
        # What rows without a chat template get in training; those trained with one by TRL or scored by vLLM have none.
        begin = getattr(tokenizer, "bos_token_id", None)
        own = tokenizer("hello")["input_ids"]
        self.events: list[str] = []
        if begin is not None and begin in own[:1] and begin not in tokens[:1]:
            self.events.append(
                f"the tokenizer puts {tokenizer.bos_token} before a text and the chat template does not: conversations "
                "are scored without, as the template has them"
            )

    @property
    def facts(self) -> dict[str, str]:
        """What of this decides the scores, for the run's provenance."""
        return self._chat.facts

    def encode(self, messages: Messages) -> list[int]:
        """Raises RequestRefused for a conversation that does not end with an answer; ContextTooLong."""
        if not messages or messages[-1].role != "assistant":
            raise RequestRefused(f"{self._name}: an answer is scored, and the last message is not the assistant's")
        tokens = self._chat.closed(messages)
        if len(tokens) > self._context:
            raise ContextTooLong(
                f"{self._name}: the conversation has {len(tokens)} tokens, and the reward model takes {self._context}",
                hint="score shorter answers, or use a reward model with a longer context; nothing is cut off",
            )
        return tokens


@dataclass(frozen=True, slots=True)
class ScalarModel:
    """A reward model with its tokenizer, ready for use."""

    name: str
    module: Any
    """transformers' model, in evaluation mode."""
    chat: ScoreTokenizer
    pad: int | None
    """The token that config.json pads with: the score is read at the last one that is another. None: it names none, and
    transformers reads a conversation alone, at its last token."""
    facts: dict[str, str]
    """What determines its scores, for the run's provenance."""


def load_scalar(section: TransformersModel) -> ScalarModel:
    """The reward model of `section`. Takes seconds. Raises ModelLoadError."""
    folder, name = find(section), short_name(section)
    check_head(folder, f"model {section.model}")
    import torch
    import transformers

    # Partly without types: seen as Any.
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    tokenizer = load_tokenizer(section, folder)
    try:
        module, loading = library.AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=1,
            ignore_mismatched_sizes=True,  # they are refused below
            dtype=getattr(torch, section.dtype),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        _check_loaded(loading, f"model {section.model}")
        module = module.to(section.device).eval()
    except ModelLoadError:
        raise
    except Exception as error:  # whatever a broken folder makes the libraries raise
        raise ModelLoadError(f"model {section.model}: cannot be loaded: {first_line(error)}") from error
    if getattr(module, "_is_stateful", False):
        raise ModelLoadError(
            f"model {section.model}: it keeps a recurrent state, which this engine cannot batch",
            hint='use engine = "vllm"',
        )
    config = module.config.get_text_config()
    context = int(getattr(config, "max_position_embeddings", None) or 2**31)
    chat = ScoreTokenizer(tokenizer, name, Spoken.of(section), context)
    facts = {
        "name": name,
        "engine": "transformers",
        "scores": type(module).__name__,
        "digest": folder_digest(folder),
        "dtype": section.dtype,
        "device": section.device,
        "transformers": library.__version__,
        "torch": torch.__version__,
        **chat.facts,
        **({"revision": section.revision} if section.revision else {}),
    }
    return ScalarModel(name, module, chat, config.pad_token_id, facts)


def check_head(folder: Path, what: str) -> None:
    """Raises ModelLoadError where config.json does not say that the model scores: another kind of model, one with
    several labels, one that brings code."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{what}: its config.json cannot be read: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise ModelLoadError(f"{what}: its config.json is no object")
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    code = [name for name in config.get("auto_map") or () if str(name).startswith("AutoModel")]
    if code:
        raise ModelLoadError(
            f"{what}: its score is computed by code in its folder (auto_map, {code[0]}), and a model's code is not run",
            hint="use a reward model that transformers itself knows, such as Skywork-Reward-V2",
        )
    if len(kinds) != 1 or not kinds[0].endswith(HEAD):
        raise ModelLoadError(
            f"{what}: config.json calls it {' and '.join(kinds) or 'nothing'}, not a …{HEAD}, so no score was trained",
            hint="a scalar reward model is one of transformers' sequence classifications with one label, as TRL's "
            "RewardTrainer saves it; a model that writes text is a judge",
        )
    labels = labels_of(config)
    if labels not in (None, 1):
        raise ModelLoadError(
            f"{what}: it has {labels} labels, and a scalar reward model has one",
            hint="which of a classifier's labels speaks for an answer is not in its files",
        )


def labels_of(config: Any) -> int | None:
    """How many config.json says there are; None: it does not say, and transformers would take two."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            stated = part.get("num_labels", len(part["id2label"]) if part.get("id2label") else None)
            if stated is not None:
                return int(stated)
    return None


def _check_loaded(loading: Any, what: str) -> None:
    """Raises ModelLoadError for weights that the files lack, which are random, or that would be left out."""
    if odd := [str(each[0]) for each in loading["mismatched_keys"]]:
        raise ModelLoadError(
            f"{what}: {_some(odd)} has another shape in its files than in a model of its config.json with one label",
            hint="a scalar reward model has one label; which of several speaks for an answer is not in its files",
        )
    if missing := sorted(loading["missing_keys"]):
        raise ModelLoadError(
            f"{what}: its files lack {_some(missing)}, which would be random: the score would mean nothing",
            hint="use the checkpoint that training saved; a merged or renamed one may have lost its head",
        )
    left = [name for name in sorted(loading["unexpected_keys"]) if not name.startswith(LEFT_OVER)]
    if left := [name for name in left if not name.endswith(BUFFERS)]:
        raise ModelLoadError(
            f"{what}: its files have weights that transformers would ignore ({_some(left)}): the score would be "
            "another one than what was trained",
            hint="use a reward model that transformers itself knows",
        )


def _some(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


def check_weights(folder: Path, what: str) -> None:
    """Raises ModelLoadError where the safetensors in `folder` have no head of one row, named as transformers' causal
    models have it, or one with a bias. Their weights are not read."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            shapes |= {name: each["shape"] for name, each in header.items() if name.startswith("score.")}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            raise ModelLoadError(f"{what}: {path.name} is no safetensors: {first_line(error)}") from error
    if "score.weight" not in shapes:
        raise ModelLoadError(
            f"{what}: its files lack score.weight, which would be random: the score would mean nothing"
        )
    if len(shapes) > 1 or shapes["score.weight"][0] != 1:
        raise ModelLoadError(f"{what}: its head is {shapes}, and a scalar reward model's is one row without a bias")


def pad_of(folder: Path) -> int | None:
    """The token that config.json pads with. None: it names none."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found: int | None = config.get("pad_token_id", (config.get("text_config") or {}).get("pad_token_id"))
    return found
