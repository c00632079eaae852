"""What the sections of a recipe are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.types import GetPydanticSchema, JsonValue

from constitution.records import Sampling

Whole = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
JsonOnly = Annotated[Any, GetPydanticSchema(lambda _, schema: schema.generate_schema(JsonValue))]
"""No dates, NaN or infinity, which TOML has: a run's record is JSON."""


class Section(BaseModel):
    # Values stay out of pydantic's own messages: one may be a key that was put where none belongs.
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False, serialize_by_alias=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value(cls, data: Any) -> Any:
        """Refused for fields that are none: pydantic would take true for 1."""
        for name, value in data.items() if isinstance(data, dict) else ():
            if name in cls.model_fields and cls.model_fields[name].annotation is bool:
                continue
            if any(isinstance(each, bool) for each in (value if isinstance(value, list) else [value])):
                raise ValueError(f"{name}: true and false are no values of this field")
        return data


def names(section: type[BaseModel]) -> list[str]:
    """The names of its fields as recipes have them: Python cannot call one `from`."""
    return [field.alias or name for name, field in section.model_fields.items()]


class SamplingSection(Section):
    temperature: float = Field(default=1.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Count = 512
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end the output; an empty one would end it before it begins."""

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.stop)
