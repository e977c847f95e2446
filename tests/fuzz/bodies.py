"""Bodies of requests: real payloads, the same spoiled, and JSON that is hard to read."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

CORPUS = Path(__file__).parents[1] / "data" / "github-webhooks.jsonl.gz"
MOST_INFLATED_BYTES = 20 * 2**20
"""How large a gzip bomb becomes: more than the 5 MiB that a batch may have."""

ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, -(2**63), 1e308, 0.1, "", "\x00", "\U0001f600", "a" * 300, "é" * 5_000,
    [], {}, [[]], {"": {}}, "2026-01-01T00:00:00Z", "9999-12-31T23:59:60Z", "now", "../..", "*", "order.*",
)  # fmt: skip
ODD_TEXTS = (
    b"", b"{", b"[", b"nul", b"NaN", b'"\\ud800"', b'{"type":"a","payload":1e999}', b'{"a":1,"a":2}',
    b"\xef\xbb\xbf{}", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 100_000, b'"' + b"\\" * 9_999,
    b"[" + b"{}," * 200_000 + b"{}]", b"\n" * 100_000, b"{}\n" * 20_000, b"0,\r\n\r\nGET / HTTP/1.1\r\n\r\n",
)  # fmt: skip
FIELDS = (
    "type", "payload", "data", "dedup_id", "ordering_key", "occurred_at", "source", "subject", "key", "name",
    "event_types", "filter", "lease_limit", "lease_seconds", "lease_id", "event_ids", "only", "rate", "since",
    "subscription_id", "plan_only", "ordering", "retry", "signature", "secret", "max_leases", "last", "start",
    "message_ids", "reason", "default_lease_seconds", "wait_seconds",
)  # fmt: skip


def lines() -> list[bytes]:
    """The real payloads, each as it is posted."""
    return gzip.decompress(CORPUS.read_bytes()).splitlines()


class Bodies:
    """Makes bodies from the choices of one generator."""

    def __init__(self, rng: random.Random, real: list[bytes]) -> None:
        self._rng = rng
        self._real = real

    def any(self) -> bytes:
        """A body for any route, more often readable than not."""
        makers: tuple[Callable[[], bytes], ...] = (
            self.real, self.real, self.event, self.event, self.fields, self.batch, self.spoiled, self.odd,
        )  # fmt: skip
        return self._rng.choice(makers)()

    def real(self) -> bytes:
        """A real event."""
        return self._rng.choice(self._real)

    def event(self) -> bytes:
        """A small event with odd values in it."""
        rng = self._rng
        event = {"type": "fuzz." + rng.choice("abc"), "payload": {"k": rng.choice(ODD_VALUES)}}
        if rng.random() < 0.3:
            event["dedup_id"] = f"d{rng.randrange(500)}"
        if rng.random() < 0.3:
            event["ordering_key"] = rng.choice("xyz")
        if rng.random() < 0.2:
            event[rng.choice(FIELDS)] = rng.choice(ODD_VALUES)
        return msgspec.json.encode(event)

    def fields(self) -> bytes:
        """An object of fields that some route knows, with odd values."""
        names = self._rng.sample(FIELDS, self._rng.randrange(1, 6))
        return msgspec.json.encode({name: self._rng.choice(ODD_VALUES) for name in names})

    def batch(self) -> bytes:
        """A batch, as an array or as lines, in which an item may be spoiled."""
        rng = self._rng
        items = [self._rng.choice((self.event, self.real))() for _ in range(rng.choice((1, 2, 10, 30)))]
        if rng.random() < 0.3:
            items[rng.randrange(len(items))] = self.spoiled()
        return b"\n".join(items) if rng.random() < 0.5 else b"[" + b",".join(items) + b"]"

    def spoiled(self) -> bytes:
        """A real event with bytes changed, cut out, doubled or put in."""
        rng = self._rng
        body = bytearray(self.real())
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(body) + 1)
            match rng.randrange(4):
                case 0:
                    body[at : at + 1] = rng.randbytes(1)
                case 1:
                    del body[at : at + rng.randrange(1, 200)]
                case 2:
                    body[at:at] = body[max(0, at - 500) : at]
                case _:
                    body[at:at] = rng.choice((b"\x00", b"\r\n", b"{", b"]", b",", b'"', b"\xc3", b"1e9"))
        return bytes(body)

    def odd(self) -> bytes:
        """Text that is hard to read."""
        return self._rng.choice(ODD_TEXTS)

    def zipped(self, body: bytes) -> bytes:
        """The body under gzip: whole, cut, spoiled, with more behind it, or something very large instead."""
        rng = self._rng
        match rng.randrange(6):
            case 0:
                return gzip.compress(body, 1)[: -rng.randrange(1, 20)]
            case 1:
                spoiled = bytearray(gzip.compress(body, 1))
                spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
                return bytes(spoiled)
            case 2:
                return gzip.compress(body, 1) + rng.choice((b"more", gzip.compress(b"more")))
            case 3:
                return bomb(rng.choice(b'[{"0 \n,').to_bytes(), rng.choice((5 * 2**20, MOST_INFLATED_BYTES)))
            case _:
                return gzip.compress(body, 1)


def bomb(letter: bytes, size: int) -> bytes:
    """Gzip of one letter, `size` times."""
    packer = zlib.compressobj(9, wbits=31)
    block = letter * 2**20
    return b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()
