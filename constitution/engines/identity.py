"""What decides a model's answers, known without loading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitution.engines.vllm_args import check, decisive
from constitution.engines.weights import file_sha256, find, find_adapter, folder_digest, short_name
from constitution.recipe import ModelSection, OpenAIModel, TransformersModel, VLLMModel

OPERATIONAL = {
    *("api_key_env", "base_url", "cache_salt", "concurrency", "failure_rate", "latency_s", "max_batch", "price"),
    *("batch", "batch_poll_s", "batch_wait_s", "retries", "timeout_s"),
}
"""Fields of model sections that decide where, how fast and how surely a model answers, and not what."""


def model_identity(section: ModelSection) -> dict[str, Any]:
    """What decides the model's answers, known without loading it.

    A local model is the digest of its files, read in full: a part of them would not tell two trainings of one model
    apart. A server's model is its name and settings; where it is served is a place. Of vLLM's arguments those are left
    out that say where and how fast it runs; where they name a folder or a file, such as a draft model's, it is what is
    in it. Name and family are in, since they stand in what the model wrote and voted. Raises RecipeError for arguments
    that are refused, ModelLoadError.
    """
    if isinstance(section, VLLMModel | OpenAIModel):
        check(section)  # first: finding a model may download it
    fields = section.model_dump(mode="json", exclude=OPERATIONAL, exclude_defaults=True)
    if isinstance(section, TransformersModel | VLLMModel):
        fields |= {"model": folder_digest(find(section)), "revision": None, "name": short_name(section)}
    if isinstance(section, VLLMModel):
        adapter = find_adapter(section)
        fields |= {"adapter": adapter and [adapter.name, folder_digest(adapter)]}
        fields |= {"vllm": _contents(decisive(section.vllm))}
    elif isinstance(section, OpenAIModel):
        fields |= {"vllm": decisive(section.vllm)}  # `constitution serve` reads them
    return fields


def _contents(value: Any) -> Any:
    """`value` with the digest of what is there in place of each text that names a folder or a file."""
    if isinstance(value, Mapping):
        return {name: _contents(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_contents(inner) for inner in value]
    if isinstance(value, str) and "/" in value:
        path = Path(os.path.expanduser(value))
        if os.path.isdir(path):
            return folder_digest(path)
        if os.path.isfile(path):
            return file_sha256(path)
    return value
