"""Small tokenizers with chat templates such as public models have them, in our own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' %}{%- set answer = message.content %}"
    "{%- if '</think>' in answer %}{%- set answer = answer.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{%- if loop.last %}{{ '<think>\n\n</think>\n\n' }}{%- endif %}{{ answer }}"
    "{%- else %}{{ message.content }}{%- endif %}{{ '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
"""As Qwen 3: the model opens the thought itself, and a variable closes it before."""
OPENING = (
    "{%- for message in messages %}{%- if message.role == 'assistant' %}"
    "{{ '<|assistant|>' + message.content.split('</think>')[-1] + '<|im_end|>' }}"
    "{%- else %}{{ '<|' + message.role + '|>' + message.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{%- endif %}"
)
"""As DeepSeek R1: the template opens the thought, and there is no switch."""
MISTRAL = (
    "{%- for message in messages %}{%- if message.role == 'user' %}{{ '[INST]' + message.content + '[/INST]' }}"
    "{%- else %}{{ message.content + '</s>' }}{%- endif %}{%- endfor %}"
)
HARMONY = (
    "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
    "{%- for message in messages %}{{ '<|start|>' + message.role }}"
    "{%- if message.role == 'assistant' %}{{ '<|channel|>final' }}{%- endif %}"
    "{{ '<|message|>' + message.content + '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{%- endif %}"
)
LLAMA = (
    "{%- if date_string is not defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{{ '<|header|>system\nToday Date: ' + date_string + '<|end|>' }}"
    "{%- for message in messages %}{{ '<|header|>' + message.role + '\n' + message.content + '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|header|>assistant\n' }}{%- endif %}"
)
SMOL = (
    "{%- set today = strftime_now('%d %B %Y') %}{%- if enable_thinking is not defined %}"
    "{%- set enable_thinking = true %}{%- endif %}"
    "{{ '<|im_start|>system\nToday: ' + today + '. Mode: ' + ('/think' if enable_thinking else '/no_think') }}"
    "{{ '<|im_end|>\n' }}{%- for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{%- if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)


def tokenizer(template: str, special: Sequence[str], added: Sequence[str] = ()) -> Any:
    """Of bytes, and of the `special` tokens, which decoding leaves out, and the `added` ones, which it shows. The last
    special one ends a turn."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {letter: id for id, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    plain = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    plain.add_tokens([AddedToken(name, special=False, normalized=False) for name in added])
    make: Any = PreTrainedTokenizerFast
    fast = make(tokenizer_object=plain, eos_token=special[-1], clean_up_tokenization_spaces=False)
    fast.chat_template = template
    return fast


CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
THINK_TAGS = ("<think>", "</think>")
FAMILIES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "qwen": (QWEN, CHATML_TOKENS, THINK_TAGS),
    "deepseek": (OPENING, ("<|user|>", "<|assistant|>", "<|im_end|>"), THINK_TAGS),
    "mistral": (MISTRAL, ("[INST]", "[/INST]", "[THINK]", "[/THINK]", "</s>"), ()),
    "gpt-oss": (HARMONY, ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"), ()),
    "cohere": (
        CHATML,
        ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", *CHATML_TOKENS),
        (),
    ),
    "seed": (CHATML, ("<seed:think>", "</seed:think>", *CHATML_TOKENS), ()),
    "gemma": (CHATML, ("<|channel>", "<channel|>", *CHATML_TOKENS), ()),
    "plain": (CHATML, CHATML_TOKENS, ()),
    "llama": (LLAMA, ("<|header|>", "<|end|>"), ()),
    "smol": (SMOL, CHATML_TOKENS, THINK_TAGS),
}


def family(name: str) -> Any:
    return tokenizer(*FAMILIES[name])
