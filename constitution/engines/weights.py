"""Finding and loading local models: safetensors only, no code from the model's folder."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from constitution.engines.chat import ChatTokenizer
from constitution.engines.read_out import stated
from constitution.engines.spoken import Spoken
from constitution.errors import ModelLoadError
from constitution.identity import digest
from constitution.recipe import TransformersModel, VLLMModel

POCKET = Path(__file__).parent.parent / "pocket" / "model"
"""The model that ships with the package."""
SHIPPED = {"pocket": POCKET, "pocket-scorer": POCKET.with_name("scorer"), "pocket-reward": POCKET.with_name("reward")}
"""Models that a section may name by themselves: the pocket model, one that answers its scorecard, a reward model."""

_KINDS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "additional_chat_templates/*.jinja")
_REPORTS = {"measured.json", "training.json", "trainer_state.json", "all_results.json"}
"""What is written about a model beside it; no answer depends on them."""
SETTLED_NS = 2_000_000_000
"""A file that was changed less than two seconds ago may change again without its times telling."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A causal language model with its tokenizer, ready for use."""

    name: str
    module: Any
    """transformers' model, in evaluation mode."""
    chat: ChatTokenizer
    ends: frozenset[int]
    """Token ids that end an answer."""
    context: int
    """Positions of the model: tokens of prompt and answer together."""
    shares: bool
    """Whether a prefix may be read once for several requests: not with sliding windows, which count columns."""
    facts: dict[str, str]
    """What determines its answers, for the run's provenance."""


def load(section: TransformersModel) -> LocalModel:
    """The model of `section`. Takes seconds. Raises ModelLoadError."""
    folder = find(section)
    name = short_name(section)
    import torch
    import transformers

    # Partly without types: seen as Any.
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    tokenizer = load_tokenizer(section, folder)
    try:
        module = library.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, section.dtype),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
        module = module.to(section.device).eval()
    except Exception as error:  # whatever a broken folder makes the libraries raise
        raise ModelLoadError(f"model {section.model}: cannot be loaded: {first_line(error)}") from error
    if getattr(module, "_is_stateful", False):
        raise ModelLoadError(
            f"model {section.model}: it keeps a recurrent state, which this engine cannot batch",
            hint="serve it with vLLM and use the openai engine",
        )
    config = module.config.get_text_config()
    chat = ChatTokenizer(tokenizer, name, Spoken.of(section))
    facts = {
        "name": name,
        "engine": "transformers",
        "digest": folder_digest(folder),
        "dtype": section.dtype,
        "device": section.device,
        "transformers": library.__version__,
        "torch": torch.__version__,
        **chat.facts,
        **stated(folder),
    }
    if section.revision:
        facts["revision"] = section.revision
    return LocalModel(
        name=name,
        module=module,
        chat=chat,
        ends=ends(module.generation_config, chat.eos_token_id),
        context=int(getattr(config, "max_position_embeddings", None) or 2**31),
        shares=not _slides(config),
        facts=facts,
    )


def chat_of(section: TransformersModel | VLLMModel) -> ChatTokenizer:
    """The tokenizer and chat template of `section`, without the weights. Raises ModelLoadError."""
    return ChatTokenizer(load_tokenizer(section, find(section)), short_name(section), Spoken.of(section))


def short_name(section: TransformersModel | VLLMModel) -> str:
    """As the tables have it: the folder's or the hub's name without what is before it."""
    return Path(section.model.rstrip("/")).name


def load_tokenizer(section: TransformersModel | VLLMModel, folder: Path) -> Any:
    """transformers' tokenizer of the model in `folder`. Raises ModelLoadError."""
    import transformers

    library: Any = transformers
    try:
        return library.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a broken folder makes the library raise
        raise ModelLoadError(f"model {section.model}: cannot be loaded: {first_line(error)}") from error


def find(section: TransformersModel | VLLMModel) -> Path:
    """The folder with the model's files: the shipped one, a folder of one's own, or the hub's cache.

    Raises ModelLoadError where there is none, or where its only weights are pickles, which can run code when read.
    """
    dummy = isinstance(section, VLLMModel) and section.vllm.get("load_format") == "dummy"
    if section.model in SHIPPED:
        folder = SHIPPED[section.model]
    elif Path(section.model).expanduser().is_dir():
        folder = Path(section.model).expanduser()
    else:
        folder = _download(section, weights=not dummy)
    what = f"model {section.model}"
    _no_code(folder, what)
    return folder if dummy else _with_safetensors(folder, what)


def find_adapter(section: VLLMModel) -> Path | None:
    """The folder of the section's LoRA adapter. Raises ModelLoadError where it is none, or a pickle."""
    if section.adapter is None:
        return None
    folder = Path(section.adapter).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise ModelLoadError(
            f"adapter {section.adapter}: there is no adapter_config.json in it", hint="name a folder in PEFT's format"
        )
    # This file alone: beside another one vLLM would read the pickle.
    return _with_safetensors(folder, f"adapter {section.adapter}", "adapter_model.safetensors")


def _no_code(folder: Path, what: str) -> None:
    """Raises ModelLoadError for settings by which transformers would load more than the folder's safetensors: pickles
    that an index names, a kernel of the hub's, which is code, an adapter's base model."""
    for index in folder.glob("*.safetensors.index.json"):
        _shards(index)
    if (folder / "adapter_config.json").exists():
        raise ModelLoadError(
            f"{what}: it is an adapter (adapter_config.json)",
            hint="merge it, or name it as `adapter` of a vllm section",
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # the library says so as it loads the model
    if kernel := _kernel(config):
        raise ModelLoadError(f"{what}: its config.json names a kernel of the hub's ({kernel!r}), which is code")


def _kernel(config: Any) -> str | None:
    """The value of a field such as attn_implementation that names a repository."""
    if isinstance(config, list):
        return next(filter(None, map(_kernel, config)), None)
    if not isinstance(config, dict):
        return None
    for name, value in config.items():
        if name.endswith("implementation"):
            named = value.values() if isinstance(value, dict) else [value]
            if found := next((str(each) for each in named if "/" in str(each) or ":" in str(each)), None):
                return found
        if found := _kernel(value):
            return found
    return None


def _with_safetensors(folder: Path, what: str, name: str = "*.safetensors") -> Path:
    if any(folder.glob(name)):
        return folder
    pickles = sorted(path.name for kind in _PICKLES for path in folder.glob(kind))
    if pickles:
        raise ModelLoadError(
            f"{what}: its weights are pickles ({pickles[0]}), which can run code when they are read",
            hint="convert them to safetensors, or use a revision that has them",
        )
    raise ModelLoadError(f"{what}: there is no {name} in {folder}")


def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of the files that make the model: weights, settings, tokenizer, templates."""
    paths = {path for kind in _KINDS for path in folder.glob(kind) if path.name not in _REPORTS}
    # An index may name shards in folders below.
    paths |= {shard for path in folder.glob("*.safetensors.index.json") for shard in _shards(path)}
    return digest([[path.relative_to(folder).as_posix(), file_sha256(path)] for path in sorted(paths)])


def _shards(index: Path) -> set[Path]:
    """The files that an index of weights names. Raises ModelLoadError for one outside its folder, or a pickle."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        paths = {index.parent / name for name in names}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()  # not an index: the library says so as it loads the model
    for path in paths:
        if not Path(os.path.normpath(path)).is_relative_to(index.parent):
            raise ModelLoadError(f"{index}: names weights outside its folder ({path.name})")
        if path.suffix != ".safetensors":  # transformers would read it all the same
            raise ModelLoadError(f"{index}: names weights that are no safetensors ({path.name})")
    return {path for path in paths if path.is_file()}


def file_sha256(path: Path) -> str:
    """Digest of the file's bytes. Weights may be hundreds of gigabytes, and the run's id and its record both want it:
    so a file that has been left alone for a while is read once in a process. One that was just written is always read,
    for a second change in the same instant would not show in its times."""
    stat = path.stat()
    # Of a file's times the inode's is the one that cannot be set back.
    if abs(time.time_ns() - stat.st_ctime_ns) < SETTLED_NS:
        return _read_sha256(path)
    return _remembered(path, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=4096)
def _remembered(path: Path, *_: int) -> str:
    return _read_sha256(path)


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(section: TransformersModel | VLLMModel, *, weights: bool) -> Path:
    """The hub's snapshot; without a network (or with HF_HUB_OFFLINE=1) what the cache holds of it."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    kinds = [kind for kind in _KINDS if weights or kind != "*.safetensors"]
    try:
        found = huggingface_hub.snapshot_download(
            section.model, revision=section.revision, allow_patterns=[*kinds, "*.bin.index.json"]
        )
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        raise ModelLoadError(
            f"model {section.model}: no such folder, and the hub's copy cannot be had: {first_line(error)}"
        ) from error
    return Path(found)


def ends(generation: Any, own: int | None) -> frozenset[int]:
    """End-of-turn tokens: those of the generation settings (one id or a list) and the tokenizer's own."""
    stated = generation.eos_token_id if generation is not None else None
    found = set(stated) if isinstance(stated, list) else {stated}
    return frozenset(end for end in (*found, own) if end is not None)


def _slides(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None) or []
    return any(kind != "full_attention" for kind in kinds) or bool(getattr(config, "sliding_window", None))


def first_line(error: BaseException) -> str:
    """What it says, in one line; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
