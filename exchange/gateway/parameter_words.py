"""What is wrong with a method's parameters, in words that say what is allowed."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

import msgspec

from exchange.gateway.parameters import ACCOUNT_NAME_PATTERN, ACCOUNT_NAME_WORDS

_CHOICE = "Invalid enum value"
_PATTERN = f"matching regex '{ACCOUNT_NAME_PATTERN}'"


def refusal_words(text: str, parameters: type[msgspec.Struct]) -> tuple[str, str]:
    """(reason, parameter) of a decoder's complaint about the parameters of a method."""
    param = text.rpartition("$.")[2].rstrip("`") if "$." in text else _named(text)
    param = param.partition("[")[0]  # of a list or an object it is the whole that was sent
    if text.startswith(_CHOICE):
        allowed = _choices(parameters, param)
        if allowed:
            text = f"{text}; allowed: {', '.join(allowed)}"
    return text.replace(_PATTERN, f"of {ACCOUNT_NAME_WORDS}"), param


def _choices(parameters: type[msgspec.Struct], param: str) -> list[str]:
    """The words that a parameter may be; none where it may be anything of its type."""
    for field in msgspec.structs.fields(parameters):
        if field.name == param:
            types = [field.type, *get_args(field.type)]
            return [
                word for each in types if get_origin(each) is Literal for word in get_args(each)
            ]
    return []


def _named(text: str) -> str:
    """The parameter that a validation message puts between back ticks."""
    parts = text.split("`")
    return parts[-2] if len(parts) >= 3 and "field" in text else ""
