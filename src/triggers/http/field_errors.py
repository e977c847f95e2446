"""Turns a decoder's error about a body into an error that names the field."""

from __future__ import annotations

import re

import msgspec

from triggers.errors import Invalid


def invalid_field(error: msgspec.DecodeError) -> Invalid:
    """Convert a decoder's error to Invalid. Its JSONPath becomes a JSON Pointer."""
    detail, _, path = str(error).partition(" - at `$")
    if missing := re.search(r"missing required field `(.+)`", detail):
        return Invalid(
            f"The field `{missing[1]}` is missing.", pointer=_pointer(path) + pointer_to(missing[1])
        )
    if unknown := re.search(r"unknown field `(.+)`", detail):
        return Invalid(
            f"Unknown field `{unknown[1]}`.",
            pointer=_pointer(path) + pointer_to(unknown[1]),
            logged="Unknown field.",
        )
    return Invalid(f"{detail}.", pointer=_pointer(path), logged=re.sub(r"'.*'", "'…'", detail))


def pointer_to(name: str) -> str:
    """A name as a step of a JSON Pointer (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _pointer(path: str) -> str:
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", path)  # a name that is not ours stands there as `[...]`
    return "".join(pointer_to(name or index) for name, index in steps)
