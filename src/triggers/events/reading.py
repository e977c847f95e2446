"""Chooses how the body of a request that sends events is read, by its headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from triggers.errors import UnsupportedMediaType
from triggers.events import batch, cloudevents
from triggers.events.body import Parse, parse_event_in_steps
from triggers.fairness.pace import Steps
from triggers.http.exchange import essence

Split: TypeAlias = Callable[[bytes], Steps[list[bytes]]]
"""Splits the body of a batch into its items."""


def is_batch(media_type: bytes) -> bool:
    """Whether the media type is that of a batch, so that the path does not matter."""
    return essence(media_type) == cloudevents.BATCHED


def parser_of(fields: Mapping[bytes, bytes]) -> Parse:
    """How the body of a request with these headers is read as one event.

    Raises:
        UnsupportedMediaType: the body is neither JSON nor a CloudEvent.
    """
    match essence(fields.get(b"content-type", b"")):
        case cloudevents.STRUCTURED:
            return cloudevents.parse_structured_in_steps
        case other if cloudevents.BINARY_MARK in fields and not other.startswith(b"application/cloudevents"):
            return partial(cloudevents.parse_binary_in_steps, fields)
        case b"application/json" | b"":
            return parse_event_in_steps
        case _:
            raise UnsupportedMediaType("Send application/json or application/cloudevents+json.")


def readers_of_batch(media_type: bytes) -> tuple[Split, Parse]:
    """How the body of a batch is split, and how each item is read.

    Raises:
        UnsupportedMediaType: the media type is not that of a batch.
    """
    match essence(media_type):
        case b"application/json" | b"":
            return batch.split_array, parse_event_in_steps
        case b"application/x-ndjson" | b"application/ndjson" | b"application/jsonl":
            return batch.split_lines, parse_event_in_steps
        case cloudevents.BATCHED:
            return batch.split_array, cloudevents.parse_structured_in_steps
        case _:
            raise UnsupportedMediaType(
                "Send a batch as application/json (an array), as application/x-ndjson or as"
                " application/cloudevents-batch+json."
            )
