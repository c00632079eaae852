"""The fixtures lie beside it, where the type checker, which takes one conftest only, looks at them."""

from real_model import transformers_engine  # noqa: F401
