"""Everything that this package raises on purpose.

    ConstitutionError                 retryable=False
    ├── InputError                    what a person wrote is wrong; the message says file, place and remedy
    │   ├── PrincipleError            a constitution file or its lock
    │   ├── RecipeError               a recipe file, or --set
    │   ├── PromptError               a prompt source
    │   ├── DocumentError             a document that clauses are read from
    │   └── QueryError                a SQL query that is wrong or not allowed
    ├── EngineError                   a model did not do what was asked
    │   ├── ModelLoadError            weights, tokenizer or server model not found or refused
    │   ├── RequestRefused            the engine says that the request itself is wrong; the same request fails again
    │   │   └── ContextTooLong        more tokens than the model can take
    │   ├── MalformedReply            retryable: the reply lacks what was asked for (no text, no log-probabilities)
    │   └── EngineUnavailable         retryable: connection, server error
    │       ├── AccessDenied          retryable, but by a person: the key or the account must be put right first
    │       ├── EngineGone            retryable, by starting again: no server has been in service for long
    │       ├── EngineTimeout         retryable
    │       └── RateLimited           retryable, after `retry_after` seconds
    ├── NotFinished                   a run ended while prompts of it were left
    ├── HubError                      retryable: a data set could not be sent to the hub
    └── WarehouseError                stored data cannot be read or written
        ├── RunLocked                 another process is writing this run
        └── DamagedPart               a stored file is not what was written

Every class says whether trying again can help (`retryable`) and what to do (`hint`).
"""

from __future__ import annotations

from typing import Any


class ConstitutionError(Exception):
    """Root of the tree. `hint` says what the user can do about it."""

    retryable: bool = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class InputError(ConstitutionError):
    """What a person wrote cannot be used."""


class PrincipleError(InputError):
    hint = "run `constitution principles check` for the full list"


class RecipeError(InputError):
    hint = "compare with the recipes in recipes/"


class PromptError(InputError):
    hint = "see docs/recipes.md for the prompt formats"


class DocumentError(InputError):
    hint = "a document is Markdown, plain text, HTML or a PDF with text"


class QueryError(InputError):
    hint = "docs/warehouse.md lists tables, views and columns"


class EngineError(ConstitutionError):
    """A model did not do what was asked of it."""

    no_logprobs: bool = False
    """Whether the log-probabilities that were asked for are what it does not give, with any request."""


class ModelLoadError(EngineError):
    hint = "check the model's name or folder, and that its weights are safetensors"


class RequestRefused(EngineError):
    """The engine says that this request is wrong; sending it again changes nothing."""

    status: int | None = None
    """HTTP status of the reply; None: it is no server's."""
    words: str = ""
    """What the server says, whole and on one line."""
    fields: frozenset[str] = frozenset()
    """Fields of the request that it names apart from its words."""
    unknown: bool = False
    """Whether it says of a field that it is not taken at all."""
    flagged: bool = False
    """Whether it is what this prompt or answer says that is not wanted."""


class ContextTooLong(RequestRefused):
    hint = "use a model with a longer context, fewer exemplars, or a smaller max_tokens"


class MalformedReply(EngineError):
    """The reply lacks something that was asked for."""

    retryable = True


class EngineUnavailable(EngineError):
    retryable = True
    status: int | None = None
    """HTTP status of the reply; None where there was no reply."""
    hint = "check that the server runs and that base_url is right; starting the run again resumes it"


class AccessDenied(EngineUnavailable):
    """The server does not take the key, or the account has no money left. A restarted run tries again."""

    hint = "check the key in the environment variable that api_key_env names, and the account; then start the run again"


class EngineGone(EngineUnavailable):
    """No server has been in service for as long as a request may take. The run stops; started again, it resumes."""

    hint = "start the servers; the same command resumes from here"


class EngineTimeout(EngineUnavailable):
    hint = "raise timeout_s in the recipe's model section"


class RateLimited(EngineUnavailable):
    hint = "lower `concurrency` in the recipe's model section"

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """Seconds that the server asks us to wait; None when it does not say."""


class NotFinished(ConstitutionError):
    """A run ended while prompts of it were left, or with none that came to its end. `run`: its record, a Run."""

    retryable = True

    def __init__(self, message: str, run: Any) -> None:
        super().__init__(message)
        self.run = run


class HubError(ConstitutionError):
    """The hub cannot be reached, or did not take what was sent. Nothing is there by halves: a push is one commit."""

    retryable = True
    hint = "push again; what the hub has already is not sent twice"


class WarehouseError(ConstitutionError):
    """Stored data cannot be read or written."""


class RunLocked(WarehouseError):
    hint = "wait for the other process, or stop it; a dead process holds no lock"


class DamagedPart(WarehouseError):
    """A file does not have the digest that was written with it, or is gone."""

    hint = "`constitution verify --repair` quarantines it; then the same `constitution run` makes its rows again"
