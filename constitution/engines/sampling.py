"""Drawing the next token of each row of a batch: temperature, top-p, greedy.

Every row brings its own uniform number, so what a request says does not depend on what it was batched with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def next_tokens(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Token ids [rows] for `logits` [rows, vocabulary]; the other arguments are [rows], uniform in [0, 1).

    Temperature 0 is greedy. top_p keeps the smallest set of tokens that reaches it (Holtzman et al. 2020). −1 is
    for a row whose logits are not numbers.
    """
    import torch

    broken = ~torch.isfinite(logits.amax(-1))
    tokens = logits.argmax(-1)
    drawn = (temperature > 0).nonzero()[:, 0]
    if len(drawn):
        # Divided by less, logits would become infinite; at a millionth the likeliest token has all the probability.
        scaled = logits[drawn].float() / temperature[drawn, None].clamp(min=1e-6)
        probabilities = torch.softmax(scaled, -1).nan_to_num(0.0)
        narrow = (top_p[drawn] < 1).nonzero()[:, 0]
        if len(narrow):
            probabilities[narrow] = _nucleus(probabilities[narrow], top_p[drawn][narrow])
        # Inverse of the cumulative distribution, in float64: 150,000 float32 terms would lose the tail.
        cumulative = probabilities.cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1:]
        # Never the total itself: rounding must not lead past the last token that has any probability.
        target = torch.minimum(uniform[drawn, None] * total, total * (1 - 1e-12))
        picked = torch.searchsorted(cumulative, target, right=True)[:, 0]
        tokens[drawn] = picked.clamp(max=logits.shape[-1] - 1)
    return torch.where(broken, -1, tokens)


def _nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """`probabilities` [rows, vocabulary] with zeros outside the smallest set that reaches `top_p` [rows]."""
    import torch

    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    kept = torch.where(before < top_p[:, None], ordered, 0.0)
    return torch.zeros_like(probabilities).scatter_(-1, index, kept)
