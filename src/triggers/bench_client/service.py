"""The measured service: its address, a key, and the bytes of requests to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import msgspec

from triggers.bench_client.connection import HttpAnswer, LoadConnection, connect
from triggers.errors import OperatorError
from triggers.terminal import inert


@dataclass(frozen=True)
class MeasuredService:
    """Where the service answers, and the key with which it is called."""

    host: str
    port: int
    tls: bool
    prefix: str
    key: str

    @classmethod
    def at(cls, url: str, key: str) -> MeasuredService:
        """Read the options `--url` and `--key`.

        Raises:
            OperatorError: one of them cannot be right. The message does not repeat it, as it may be secret.
        """
        if not re.fullmatch(r"[!-~]+", key.strip()):
            raise OperatorError("The API key is empty, or contains a character that no key has. Check --key.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            usable = parts.scheme in {"http", "https"} and host and host.isascii()
        except ValueError:
            usable = False
        if not usable or not re.fullmatch(r"[!-~]*", parts.path):
            raise OperatorError("The URL of the service must be like http://127.0.0.1:8080. Check --url.")
        tls = parts.scheme == "https"
        return cls(str(host), port or (443 if tls else 80), tls, parts.path.rstrip("/"), key.strip())

    def with_key(self, key: str) -> MeasuredService:
        """The same service, called with another key."""
        return replace(self, key=key)

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The bytes of a request, with the headers of the script that this benchmark continues."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        content = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head = (
            f"{method} {self.prefix}{path} HTTP/1.1\r\nHost: {host}:{self.port}\r\nX-API-Key: {self.key}\r\n"
            f"Accept: application/json\r\n{content}\r\n"
        )
        return head.encode("ascii") + (body or b"")

    async def connect(self) -> LoadConnection:
        """Open a connection.

        Raises:
            OperatorError: the service cannot be reached.
        """
        try:
            return await connect(self.host, self.port, tls=self.tls)
        except OSError as error:
            slow = isinstance(error, TimeoutError) and not error.strerror
            reason = "it took longer than 10 seconds" if slow else error.strerror or str(error)
            raise OperatorError(
                f"No connection to {self.host}, port {self.port}: {reason}. Check --url, and that"
                " `triggers serve` is running."
            ) from None

    async def try_ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Send one request on a connection of its own; return the status and the members of the answer.

        Raises:
            OperatorError: there is no answer.
        """
        connection = await self.connect()
        content = None if body is None else msgspec.json.encode(body)
        try:
            answer = await connection.exchange(self.request(method, path, content))
        except OSError as error:
            raise OperatorError(f"No answer to {method} {path}: {error}") from None
        finally:
            connection.abort()
        return answer.status, object_in(answer)

    async def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The same for a request that has to succeed.

        Raises:
            OperatorError: the answer is an error, with its `status` as a fact.
        """
        status, members = await self.try_ask(method, path, body)
        if not 200 <= status < 300:
            raise OperatorError(f"{method} {path}: {status} {reason_of(members)}", status=status)
        return members


def object_in(answer: HttpAnswer) -> dict[str, Any]:
    """The members of a JSON object; none if the answer is something else."""
    try:
        found = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def reason_of(problem: dict[str, Any]) -> str:
    """The reason that an error answer gives. Control characters of a stranger are escaped."""
    wrong = [
        f"{each.get('pointer', '')}: {each.get('detail', '')}"
        for each in problem.get("errors") or ()
        if isinstance(each, dict)
    ]
    said = " ".join(wrong) or str(
        problem.get("detail", "The answer does not come from Triggers. Check --url.")
    )
    return inert(said[:500])
