"""One import place for pydantic's v1 API, which pydantic 1.10 (the webui's) and pydantic 2 both offer."""

from __future__ import annotations

try:  # pydantic 2, and 1.10.17 or newer
    from pydantic.v1 import BaseModel, Extra, Field, ValidationError, root_validator, validator
except ImportError:  # older 1.10
    from pydantic import (
        BaseModel,
        Extra,
        Field,
        ValidationError,
        root_validator,
        validator,
    )

__all__ = ["BaseModel", "Extra", "Field", "ValidationError", "root_validator", "validator"]
