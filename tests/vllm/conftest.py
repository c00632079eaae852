"""The fixtures lie beside it, where the type checker, which takes one conftest only, looks at them."""

from real_vllm import adapter, conversations, engine, engines, reference, server  # noqa: F401
