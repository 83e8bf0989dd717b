"""Closed configuration models: an unknown key is an error that names the key the user probably meant."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from alflow.errors import ConfigError, did_you_mean

__all__ = ["ClosedModel", "explain"]


class ClosedModel(BaseModel):
    """Base of every configuration: frozen, closed, defaults validated.

    Examples:
        >>> class Bath(ClosedModel):
        ...     temperature_k: float = 300.0
        >>> Bath(temprature_k=500)
        Traceback (most recent call last):
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Bath
          Value error, unknown key 'temprature_k'. Did you mean 'temperature_k'? ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _answer_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    hint = did_you_mean(str(key), cls.model_fields)
                    known = "" if hint else f" Known keys: {', '.join(sorted(cls.model_fields))}."
                    raise ValueError(f"unknown key {key!r}.{hint}{known}")
        return data


def explain(error: ValidationError, what: str) -> ConfigError:
    """Turn pydantic's report into one sentence per mistake.

    Args:
        error: What pydantic found.
        what: Name of the file or object that was read.
    """
    sentences = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        found = ""
        if item["type"] == "missing":
            message = "this key is required and has no default; add it"
        if item["type"] == "union_tag_not_found":
            message = f"the key {item['ctx']['discriminator']} is missing, which says what kind of {where} is meant"
        if item["type"] not in ("value_error", "missing"):
            found = f" (found {item['input']!r})"
        sentences.append(f"{where}: {message}{found}" if where else f"{message}{found}")
    return ConfigError(f"{what}: " + "; ".join(sentences))
