"""Reading prompts into a model: padded together, and what several of them begin with read once.

Votes on one pair differ only in their last lines, and critiques share their worked examples, so a common prefix is
computed for the group and its keys and values are repeated for each member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from constitution.engines.cache import KVCache

if TYPE_CHECKING:
    from torch import Tensor

BUDGET = 4096
"""Padded tokens to a chunk. Larger chunks are slower on a CPU, whose caches they leave: on one core 12,000 tokens/s
at 16,000 and 15,600 at 4,000."""
MIN_SHARED = 16
"""Tokens that a shared prefix must have to be worth a forward pass of its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to be read."""

    tokens: list[int]
    wanted: int = 1
    """Number of last positions whose logits are wanted."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows (by index) that begin with the same `shared` tokens; 0 for a row that shares nothing."""

    shared: int
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Prefilled:
    rows: list[int]
    """Indices of the rows, in the order of the tensors below."""
    cache: KVCache
    mask: Tensor
    """[rows, columns], 1 where a column holds a token of the row, 0 for padding."""
    logits: Tensor
    """[rows, positions, vocabulary]; the last position is at the end."""
    reused: list[int]
    """Per row, the tokens that another row of its group had already read."""


def plan(rows: Sequence[Row], *, share: bool, max_rows: int) -> list[list[Group]]:
    """Chunks of groups, each chunk one pass through the model (two, with a shared prefix)."""
    groups = _groups(rows, max_rows) if share else [Group(0, [index]) for index in range(len(rows))]
    chunks: list[list[Group]] = []
    for sharing in (True, False):
        chosen = [group for group in groups if bool(group.shared) is sharing]
        chosen.sort(key=lambda group: len(rows[group.rows[0]].tokens))
        current: list[Group] = []
        for group in chosen:
            if current and (_cost(rows, [*current, group]) > BUDGET or _count(current) + len(group.rows) > max_rows):
                chunks.append(current)
                current = []
            current.append(group)
        if current:
            chunks.append(current)
    return chunks


def prefill(model: Any, rows: Sequence[Row], chunk: Sequence[Group]) -> Prefilled:
    """One chunk of `plan` through the model."""
    import torch

    order = [index for group in chunk for index in group.rows]
    shared = [group.shared for group in chunk for _ in group.rows]
    cache = KVCache()
    mask = torch.zeros(len(order), 0, dtype=torch.long, device=model.device)
    if any(shared):
        prefixes = [rows[group.rows[0]].tokens[: group.shared] for group in chunk]
        ids, group_mask = pad_left(prefixes, model.device)
        forward(model, ids, group_mask, cache, 1)
        member_of = [number for number, group in enumerate(chunk) for _ in group.rows]
        index = torch.tensor(member_of, device=model.device)
        cache.select(index)
        mask = group_mask[index]
    ids, tail_mask = pad_left([rows[i].tokens[start:] for i, start in zip(order, shared, strict=True)], model.device)
    mask = torch.cat([mask, tail_mask], 1)
    logits = forward(model, ids, mask, cache, max(rows[index].wanted for index in order))
    reused = [0 if place == 0 else group.shared for group in chunk for place in range(len(group.rows))]
    return Prefilled(order, cache, mask, logits, reused)


def forward(model: Any, ids: Tensor, mask: Tensor, cache: KVCache, keep: int) -> Tensor:
    """Logits [rows, keep, vocabulary] of the last `keep` positions of `ids` [rows, new columns].

    `mask` covers the cache's columns and the new ones; positions count the columns that hold a token.
    """
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    logits: Tensor = output.logits
    return logits


def pad_left(sequences: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor]:
    """Ids and mask, [sequences, longest]. Padding is token 0, which the mask hides."""
    import torch

    longest = max(map(len, sequences))
    ids = torch.tensor([[0] * (longest - len(tokens)) + list(tokens) for tokens in sequences], device=device)
    mask = torch.tensor([[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in sequences], device=device)
    return ids, mask


def _groups(rows: Sequence[Row], max_rows: int) -> list[Group]:
    """Rows that share at least half of their tokens, found among neighbours in the order of their tokens."""
    groups: list[Group] = []
    for index in sorted(range(len(rows)), key=lambda index: rows[index].tokens):
        row = rows[index]
        if groups and len(groups[-1].rows) < max_rows:
            first = rows[groups[-1].rows[0]]
            limit = groups[-1].shared or len(first.tokens) - first.wanted
            # At least the wanted positions stay in the tail, so that their logits come out of the last pass.
            limit = min(limit, len(row.tokens) - row.wanted)
            common = _common(first.tokens, row.tokens, limit)
            if common >= max(MIN_SHARED, len(row.tokens) // 2, len(first.tokens) // 2):
                groups[-1] = Group(common, [*groups[-1].rows, index])
                continue
        groups.append(Group(0, [index]))
    return groups


def _common(a: Sequence[int], b: Sequence[int], limit: int) -> int:
    """How many of the first `limit` tokens are the same in both."""
    for place in range(max(limit, 0)):
        if a[place] != b[place]:
            return place
    return max(limit, 0)


def _count(chunk: Sequence[Group]) -> int:
    return sum(len(group.rows) for group in chunk)


def _cost(rows: Sequence[Row], chunk: Sequence[Group]) -> int:
    """Padded tokens of the passes that the chunk takes."""
    longest_tail = max(len(rows[index].tokens) - group.shared for group in chunk for index in group.rows)
    return len(chunk) * max(group.shared for group in chunk) + _count(chunk) * longest_tail
