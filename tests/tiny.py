"""A tiny Llama checkpoint with random weights and a real tokenizer, made again for the tests that need a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}"
    "<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CORPUS = [
    "The answer is: (A) because the second answer is rude. The answer is: (B) because it is kind.",
    "How do I bake bread? Mix flour, water, salt and yeast, wait, and bake it for forty minutes.",
    "Rewrite the answer so that it is honest, helpful and harmless. Identify where the answer is unkind.",
    "The quick brown fox jumps over the lazy dog, again and again, until the evening comes.",
]


def save_tiny_model(
    folder: Path,
    *,
    kind: str = "Llama",
    head: str = "ForCausalLM",
    hidden: int = 64,
    vocabulary: int = 400,
    positions: int = 512,
    **config: Any,
) -> Path:
    """Write the checkpoint into `folder`. `kind`, `head`: of transformers' class; `config`: further fields of its
    configuration."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    make_tokenizer: Any = PreTrainedTokenizerFast
    fast = make_tokenizer(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        additional_special_tokens=special[2:],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(7)
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": hidden * 2,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": positions,
        "tie_word_embeddings": True,
        # Wide enough that the distributions are far from uniform and greedy has no near ties.
        "initializer_range": 0.3,
        "bos_token_id": fast.bos_token_id,
        "eos_token_id": fast.eos_token_id,
        **config,
    }
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    model = getattr(library, f"{kind}{head}")(getattr(library, f"{kind}Config")(**settings))
    model.save_pretrained(folder, safe_serialization=True)
    fast.save_pretrained(folder)
    return folder
