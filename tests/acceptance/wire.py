"""HTTP/1.1 by hand: each request is written once, and a call that got no whole answer says so.

A ready-made client may send a request again by itself, which would hide from a checker what was sent.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple, Self

import msgspec

headers_sent: set[str] = set()
"""Names of the request headers of every call, for a test that says what no request carries."""


class Unknown(Exception):
    """The request may or may not have been carried out: no whole answer came."""


class NotSent(Exception):
    """There was no connection, so the service never saw the request."""


class Answer(NamedTuple):
    """A whole answer; the headers' names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Client:
    """One connection, opened when it is needed. Not for several tasks at once."""

    def __init__(self, port: int, key: str | None, *, timeout: float = 30) -> None:
        self.port = port
        self._key = key
        self._timeout = timeout
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self._writer is not None

    async def close(self) -> None:
        """Drop the connection at once."""
        if self._writer is not None:
            writer, self._writer, self._reader = self._writer, None, None
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None) -> Answer:
        """`body` is JSON's text, or something to be made into it."""
        return await self.call("POST", path, body if isinstance(body, bytes) else msgspec.json.encode(body))

    async def call(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> Answer:
        """Send one request, once.

        Raises:
            NotSent: nobody listens.
            Unknown: the connection broke, or the time ran out, after the request may have been read.
        """
        if self._writer is None:
            try:
                async with asyncio.timeout(self._timeout):
                    self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:  # TimeoutError is one
                raise NotSent(repr(error)) from None
        headers = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body))}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        if body:
            headers["Content-Type"] = content_type
        headers_sent.update(headers)
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
        try:
            async with asyncio.timeout(self._timeout):
                self._writer.write(head.encode() + body)
                await self._writer.drain()
                answer = await self._read()
        except (OSError, EOFError, ValueError) as error:
            await self.close()
            raise Unknown(repr(error)) from None
        except BaseException:
            await self.close()
            raise
        if answer.headers.get("connection") == "close":
            await self.close()
        return answer

    async def _read(self) -> Answer:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split(" ", 2)[1]), headers, body)


class InboxItem(msgspec.Struct):
    """What a list or a lease says of a message, with the payload's bytes as they came."""

    id: str
    payload: msgspec.Raw
    type: str | None = None
    lease_count: int | None = None


class InboxPage(msgspec.Struct):
    events: list[InboxItem]
    next_cursor: str | None


async def whole_inbox(client: Client, limit: int = 1000) -> list[InboxItem]:
    """Every message of the default inbox that is not acknowledged, page by page."""
    found: list[InboxItem] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await client.get(f"/v1/inbox?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status == 200, answer
        page = msgspec.json.decode(answer.body, type=InboxPage)
        found += page.events
        cursor = page.next_cursor
    return found
