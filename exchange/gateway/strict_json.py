"""What JSON text must be beyond its grammar: no key twice, no NaN, not too deep.

msgspec reads types and numbers strictly but keeps the last of two equal keys, and a client that
sends two prices must not have one of them chosen for it. Most texts show at a glance that no key
comes twice; the others are read once more by the standard scanner, which builds nothing from
numbers: a thousand digits stay text.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

import msgspec

DEPTH_MAX = 16
_skim = msgspec.json.Decoder(msgspec.Raw).decode
_KEYS = re.compile(r'"([^"\\]*)"\s*:')
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')


class JsonRefused(ValueError):
    """Text that is no JSON, or more than we take; `key` names a key that came twice."""

    def __init__(self, reason: str, key: str = "") -> None:
        super().__init__(reason)
        self.key = key


def _pairs(pairs: list[tuple[str, object]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise JsonRefused(f"the key {twice[:64]!r} comes twice", twice[:64])


def _constant(text: str) -> NoReturn:
    raise JsonRefused(f"{text} is no JSON number")


def _number(text: str) -> None:
    """Numbers are only scanned: what they mean is for the types to say."""


_scan = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_number, parse_int=_number, parse_constant=_constant
).decode


def _is_json(text: str) -> bool:
    try:
        _skim(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def depth(text: str) -> int:
    """How deep arrays and objects are nested."""
    level = deepest = 0
    for sign in _STRINGS.sub("", text):
        if sign in "[{":
            level += 1
            deepest = max(deepest, level)
        elif sign in "]}":
            level -= 1
    return deepest


def check_json(text: str | bytes) -> None:
    """Refuse text that is no JSON, nests deeper than `DEPTH_MAX` or has a key twice.

    Raises `JsonRefused`. Bytes must be UTF-8.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise JsonRefused(f"not UTF-8: {error.reason} at byte {error.start}") from None
    if text.count("[") + text.count("{") > DEPTH_MAX and depth(text) > DEPTH_MAX:
        raise JsonRefused(f"nested deeper than {DEPTH_MAX} levels")
    if "\\" not in text:  # without escapes every key is what stands between its quotes
        keys = _KEYS.findall(text)
        if len(set(keys)) == len(keys) and _is_json(text):
            return
    try:
        _scan(text)
    except json.JSONDecodeError as error:
        raise JsonRefused(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise JsonRefused("nested too deeply") from None
