"""Keys and values of the sequences being decoded, grown in place.

transformers' own DynamicCache copies everything for each new token; at 64 sequences of 250 tokens (4 layers of 192)
that took a third of the step's time. This one keeps spare room, and has what continuous batching needs besides: rows
can be repeated (a prefix that several requests share), dropped, and added to a running batch. It offers the methods
that models and transformers' mask functions call on a cache, and is right-aligned: the newest token of every row is in
the last column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SPARE = 64
"""Columns of room made whenever a buffer is full."""


class KVCache:
    """Per layer two tensors of shape [rows, heads, columns, head size]. Only for layers of full attention."""

    is_compileable = False

    def __init__(self) -> None:
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._lengths: list[int] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the new columns of one layer and return all of its columns."""
        if layer_idx == len(self._lengths):
            self._keys.append(key_states)
            self._values.append(value_states)
            self._lengths.append(key_states.shape[2])
            return key_states, value_states
        start = self._lengths[layer_idx]
        end = start + key_states.shape[2]
        if end > self._keys[layer_idx].shape[2]:
            self._keys[layer_idx] = _with_room(self._keys[layer_idx][:, :, :start], end)
            self._values[layer_idx] = _with_room(self._values[layer_idx][:, :, :start], end)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self._lengths[layer_idx] = end
        return keys[:, :, :end], values[:, :, :end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._lengths[layer_idx] if layer_idx < len(self._lengths) else 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.get_seq_length(layer_idx)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Columns that the mask must have, and where they begin."""
        return self.get_seq_length(layer_idx) + query_length, 0

    @property
    def is_sliding(self) -> list[bool]:
        return [False] * len(self._lengths)

    def select(self, rows: Tensor, first_column: int = 0) -> None:
        """Keep (or repeat) these rows, without the columns before `first_column`."""
        for layer, length in enumerate(self._lengths):
            self._keys[layer] = self._keys[layer][:, :, first_column:length].index_select(0, rows)
            self._values[layer] = self._values[layer][:, :, first_column:length].index_select(0, rows)
            self._lengths[layer] = length - first_column

    def extend(self, other: KVCache) -> None:
        """Add the rows of `other` below ours; the narrower of the two gets zeros on its left."""
        for layer, length in enumerate(self._lengths):
            extra = other._lengths[layer]
            self._keys[layer] = _stack(self._keys[layer][:, :, :length], other._keys[layer][:, :, :extra])
            self._values[layer] = _stack(self._values[layer][:, :, :length], other._values[layer][:, :, :extra])
            self._lengths[layer] = max(length, extra)


def _with_room(columns: Tensor, needed: int) -> Tensor:
    rows, heads, length, size = columns.shape
    room = columns.new_empty(rows, heads, needed + SPARE, size)
    room[:, :, :length] = columns
    return room


def _stack(above: Tensor, below: Tensor) -> Tensor:
    """Both one upon the other, right-aligned, with room to grow. Masked columns must be finite: they are zero."""
    (rows, heads, width, size), (more, _, other_width, _) = above.shape, below.shape
    end = max(width, other_width)
    both = above.new_empty(rows + more, heads, end + SPARE, size)
    both[:rows, :, : end - width] = 0
    both[:rows, :, end - width : end] = above
    both[rows:, :, : end - other_width] = 0
    both[rows:, :, end - other_width : end] = below
    return both
