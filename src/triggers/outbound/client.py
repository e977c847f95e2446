"""The one place that opens connections to strangers.

`Outbound.send` returns a value for everything that an endpoint, a name or a proxy can do. The guard is one
line of reasoning: a socket is connected only in `_dial`, only to an address literal, and every literal that
comes there was permitted by the table in `addresses.py` (or is the operator's own proxy). No second
resolver, redirect, environment proxy or cookie exists that could lead elsewhere, and a kept-alive
connection is found again only under the address it was opened to.
"""

import asyncio
import base64
import contextlib
import errno
import ipaddress
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit
from uuid import UUID

from triggers.burst import Burst
from triggers.errors import Invalid, SettingsError
from triggers.outbound.addresses import (
    OutboundPolicy,
    Target,
    permitted,
    read_url,
)
from triggers.outbound.connection import Connection, Stage
from triggers.outbound.dns import (
    Found,
    Names,
    Resolver,
    system_resolver,
)
from triggers.outbound.pool import Key, Pool
from triggers.outbound.result import (
    Answered,
    Failed,
    Reason,
    Result,
)

TEXT_LIMIT: Final = 1024
ADDRESSES_TRIED: Final = 3
TICK_SECONDS: Final = 0.1
_NOBODY: Final = UUID(int=0)

# With a second length or coding, one tenant's request could be read as two on a connection that others share.
_FRAMING: Final = frozenset(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "expect",
        "te",
        "trailer",
        "upgrade",
    )
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
_NO_SOCKETS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_ELSEWHERE: Final = frozenset((Reason.CONNECT, Reason.CONNECT_TIMEOUT, Reason.PROXY))
"""Faults that another address of the same name may not have."""

Headers: TypeAlias = dict[str, str] | Iterable[tuple[str, str]]

_DETAILS: Final = {
    Reason.DNS: "The host name could not be resolved.",
    Reason.FORBIDDEN_ADDRESS: "The host is not an address that deliveries may go to.",
    Reason.CONNECT: "The connection was refused or the host cannot be reached.",
    Reason.CONNECT_TIMEOUT: "The host did not accept a connection in time.",
    Reason.TLS: "TLS could not be agreed with the host.",
    Reason.TLS_TIMEOUT: "The host did not finish the TLS handshake in time.",
    Reason.TIMEOUT: "The endpoint did not answer in time.",
    Reason.SLOW_HEADERS: "The endpoint began to answer and did not finish its headers in time.",
    Reason.SLOW_BODY: "The endpoint did not finish its answer in time.",
    Reason.INCOMPLETE: "The endpoint closed the connection before its answer was whole.",
    Reason.TOO_LARGE: "The headers of the answer are too large.",
    Reason.CLOSED: "The endpoint closed the connection without answering.",
    Reason.MALFORMED: "The answer is not HTTP/1.1.",
    Reason.BUSY: "The sender had no room for this connection.",
}


class _Route:
    """A URL, checked, with what is the same for all its requests."""

    __slots__ = ("_found", "_keys", "literal", "start", "target")

    def __init__(self, target: Target, literal: tuple[str, ...]) -> None:
        """`literal` is the permitted address when the host is one."""
        self.target = target
        self.literal = literal
        self.start = f"POST {target.path} HTTP/1.1\r\nhost: {target.authority}\r\ncontent-length: "
        self._found: tuple[str, ...] = ()
        self._keys: list[Key] = []

    def keys(self, found: tuple[str, ...]) -> list[Key]:
        """Where connections for `found` are kept; made anew only after another look-up."""
        if found is not self._found:
            target = self.target
            self._keys = [
                Key(target.scheme, target.host, target.port, address) for address in found[:ADDRESSES_TRIED]
            ]
            self._found = found
        return self._keys


class _Proxy(NamedTuple):
    host: str
    port: int
    literal: tuple[str, ...]
    authorization: str


class _NoConnection(Exception):
    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail or _DETAILS[reason]


class Outbound:
    """Belongs to one event loop: made inside it, ended with `close`."""

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        resolver: Resolver = system_resolver,
        trust_pem: str | None = None,
        max_connections: int = 512,
        max_idle: int = 256,
        idle_seconds: float = 15.0,
        dns_keep_seconds: float = 5.0,
    ) -> None:
        """`trust_pem`: further root certificates. `max_connections` counts idle ones too."""
        self._loop = asyncio.get_running_loop()
        self._policy = policy
        self._resolver = resolver
        self._names = Names(self._permitted_of, keep_seconds=dns_keep_seconds)
        # The proxy's own name is the operator's word and not judged; kept apart, so that no endpoint that
        # happens to name the same host is spared the judgement.
        self._proxy_names = Names(resolver, threads=4, keep_seconds=dns_keep_seconds)
        self._proxy = None if policy.proxy_url is None else _read_proxy(policy.proxy_url)
        self._tls = _tls_context(trust_pem)
        self._burst = Burst(self._loop)
        self._pool = Pool(self._loop, min(max_idle, max_connections), idle_seconds)
        self._max_connections = max_connections
        self._closed = False
        self._sending = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._in_use: dict[Connection, float] = {}
        self._clock: asyncio.TimerHandle | None = None
        self._tick_seconds = min(TICK_SECONDS, policy.total_timeout_seconds / 10)
        self._route = lru_cache(maxsize=4096)(self._route_of)

    async def send(self, url: str, headers: Headers, body: bytes, *, org: UUID) -> Result:
        """POSTs `body`. Raises nothing that an endpoint, a name or a proxy could provoke.

        `org` is whose look-up it is. Host, length and connection headers are set here, never by the caller.
        """
        began = self._loop.time()
        deadline = began + self._policy.total_timeout_seconds
        try:
            route = self._route(url)
            request = _request(route.start, headers, body)
            if self._sending < self._max_connections:
                self._sending += 1
            else:
                await self._wait_for_room(deadline)
            try:
                return await self._send(route, request, org, began, deadline)
            finally:
                self._leave()
        except Invalid as error:
            return Failed(Reason.INVALID, error.message, self._loop.time() - began)
        except _NoConnection as error:
            return Failed(error.reason, error.detail, self._loop.time() - began)

    async def close(self) -> None:
        """Closes every connection; what is in flight ends as closed."""
        self._closed = True
        for connection in list(self._in_use):
            connection.abort()
        if self._clock is not None:
            self._clock.cancel()
        self._pool.close()
        self._names.close()
        self._proxy_names.close()

    # --- one attempt

    async def _send(self, route: _Route, request: bytes, org: UUID, began: float, deadline: float) -> Result:
        found = route.literal or self._names.kept(route.target.host, began)
        if not isinstance(found, tuple):
            found = await self._addresses(self._names, route.target.host, org, deadline)
        keys = route.keys(found)
        for key in keys:
            connection = self._pool.take(key)
            if connection is not None:
                reason, result = await self._exchange(connection, key, request, began, deadline)
                if not (reason is Reason.CLOSED and connection.stage is Stage.SENT):
                    return result
                # The endpoint closed a kept-alive connection as we wrote to it: a new one will tell. If it
                # has read the request after all, it gets it twice, which at-least-once allows.
                break
        connection, key = await self._open_any(route.target, keys, deadline)
        return (await self._exchange(connection, key, request, began, deadline))[1]

    async def _exchange(
        self, connection: Connection, key: Key, request: bytes, began: float, deadline: float
    ) -> tuple[Reason | None, Result]:
        if self._closed:
            connection.abort()
        self._in_use[connection] = deadline
        if self._clock is None and not self._closed:
            self._clock = self._loop.call_later(self._tick_seconds, self._tick)
        whole = False
        try:
            reason = await connection.exchange(request)
            whole = reason is None
            seconds = self._loop.time() - began
            if connection.status:
                return reason, Answered(
                    connection.status,
                    _text_of(connection.body),
                    seconds,
                    connection.retry_after,
                    connection.delivery_control,
                    reason,
                )
            reason = reason or Reason.MALFORMED
            return reason, Failed(reason, _DETAILS[reason], seconds)
        finally:
            self._in_use.pop(connection, None)
            if whole and connection.reusable and not connection.closed and not self._closed:
                self._pool.keep(key, connection)
            else:
                connection.abort()

    def _tick(self) -> None:
        """Ends exchanges whose time is up: one timer for all costs less than one for each."""
        self._clock = None
        now = self._loop.time()
        for connection in [connection for connection, deadline in self._in_use.items() if deadline <= now]:
            connection.expire()
        if self._in_use:
            self._clock = self._loop.call_later(self._tick_seconds, self._tick)

    async def _wait_for_room(self, deadline: float) -> None:
        place: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout_at(deadline):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._leave()  # it was handed over as we gave up
            if isinstance(error, TimeoutError):
                raise _NoConnection(Reason.BUSY) from None
            raise

    def _leave(self) -> None:
        """Hands the place to who has waited longest."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._sending -= 1

    # --- where to

    def _route_of(self, url: str) -> _Route:
        target = read_url(url)
        if target.scheme == "http" and not self._policy.allow_http:
            raise Invalid("The URL must be https; this service does not deliver over plain http.")
        literal: tuple[str, ...] = ()
        if target.literal is not None:
            address = permitted(target.literal, self._policy.allow)
            if address is None:
                raise _NoConnection(Reason.FORBIDDEN_ADDRESS)
            literal = (str(address),)
        return _Route(target, literal)

    def _permitted_of(self, host: str) -> Found:
        """Resolves and judges; runs in a thread of Names."""
        found = self._resolver(host)
        addresses = [permitted(ipaddress.ip_address(address), self._policy.allow) for address in found]
        kept = tuple(str(address) for address in addresses if address is not None)
        return kept or (Reason.FORBIDDEN_ADDRESS if found else Reason.DNS)

    async def _addresses(self, names: Names, host: str, org: UUID, deadline: float) -> tuple[str, ...]:
        found = names.kept(host, self._loop.time())
        if found is None:
            try:
                async with asyncio.timeout_at(deadline):
                    found = await names.find(host, org)
            except TimeoutError:
                raise _NoConnection(
                    Reason.BUSY, "The look-up of the host waited too long for its turn."
                ) from None
        if isinstance(found, Reason):
            raise _NoConnection(found)
        return found

    # --- opening

    async def _open_any(self, target: Target, keys: list[Key], deadline: float) -> tuple[Connection, Key]:
        """A new connection to the first of the addresses that takes one: nothing has been sent until then."""
        if self._closed:
            raise _NoConnection(Reason.BUSY, "The sender is stopping.")
        self._pool.make_room(self._max_connections - self._sending)
        failure = _NoConnection(Reason.CONNECT)
        for key in keys:
            try:
                return await self._open(target, key.address, deadline), key
            except _NoConnection as error:
                failure = error
                if error.reason not in _ELSEWHERE or self._loop.time() >= deadline:
                    break
        raise failure

    async def _open(self, target: Target, address: str, deadline: float) -> Connection:
        if self._proxy is not None:
            transport = await self._tunnel(self._proxy, address, target.port, deadline)
            return await self._over_tunnel(transport, target, deadline)
        sock = await self._dial(address, target.port, deadline)
        tls = self._tls if target.scheme == "https" else None
        try:
            # Without TLS nothing is waited for: a limit could only run out while this process stood still.
            async with _tls_faults(self._limit(deadline)) if tls else contextlib.nullcontext():
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop, self._burst),
                    sock=sock,
                    ssl=tls,
                    server_hostname=target.host if tls else None,
                )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _dial(self, address: str, port: int, deadline: float) -> socket.socket:
        """Connects a socket. `address` is a literal, and the one that was judged."""
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            raise _NoConnection(Reason.BUSY if error.errno in _NO_SOCKETS else Reason.CONNECT) from None
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout_at(self._limit(deadline)):
                await self._loop.sock_connect(sock, (address, port))
        except TimeoutError:
            sock.close()
            raise _NoConnection(Reason.CONNECT_TIMEOUT) from None
        except OSError:
            sock.close()
            raise _NoConnection(Reason.CONNECT) from None
        except BaseException:
            sock.close()
            raise
        return sock

    async def _tunnel(self, proxy: _Proxy, address: str, port: int, deadline: float) -> asyncio.Transport:
        """A CONNECT through the egress proxy to the judged address. What fails here is the proxy's fault."""
        try:
            found = proxy.literal or await self._addresses(self._proxy_names, proxy.host, _NOBODY, deadline)
            sock = await self._dial(found[0], proxy.port, deadline)
        except _NoConnection as error:
            if error.reason is Reason.BUSY:
                raise
            raise _NoConnection(Reason.PROXY, "The egress proxy cannot be reached.") from None
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._loop, tunnel=True), sock=sock
        )
        timer = self._loop.call_at(deadline, connection.expire)
        opened = False
        try:
            authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            request = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{proxy.authorization}\r\n"
            reason = await connection.exchange(request.encode())
            opened = reason is None and 200 <= connection.status < 300
        finally:
            timer.cancel()
            if not opened:
                connection.abort()
        if not opened:
            said = (
                f"answered CONNECT with {connection.status}"
                if connection.status
                else "did not answer CONNECT"
            )
            raise _NoConnection(Reason.PROXY, f"The egress proxy {said}.")
        return connection.give_up_transport()

    async def _over_tunnel(self, transport: asyncio.Transport, target: Target, deadline: float) -> Connection:
        connection = Connection(self._loop, self._burst)
        inner: asyncio.BaseTransport | None = transport
        if target.scheme == "https":
            try:
                async with _tls_faults(self._limit(deadline)):
                    inner = await self._loop.start_tls(
                        transport, connection, self._tls, server_hostname=target.host
                    )
            except BaseException:
                transport.abort()
                raise
        else:
            transport.set_protocol(connection)
        if inner is None:
            raise _NoConnection(Reason.CLOSED)
        connection.connection_made(inner)
        return connection

    def _limit(self, deadline: float) -> float:
        return min(deadline, self._loop.time() + self._policy.connect_timeout_seconds)


@lru_cache(maxsize=4)
def _tls_context(trust_pem: str | None) -> ssl.SSLContext:
    """Reading the system's roots takes tens of milliseconds; the context is never changed after."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if trust_pem is not None:
        context.load_verify_locations(cadata=trust_pem)
    return context


@contextlib.asynccontextmanager
async def _tls_faults(limit: float) -> AsyncIterator[None]:
    """What can go wrong in a handshake, in our words."""
    try:
        async with asyncio.timeout_at(limit):
            yield
    except ssl.SSLCertVerificationError as error:
        raise _NoConnection(Reason.TLS, f"The certificate does not hold: {error.verify_message}.") from None
    except TimeoutError:
        raise _NoConnection(Reason.TLS_TIMEOUT) from None
    except (OSError, ValueError):
        raise _NoConnection(Reason.TLS) from None


def _request(start: str, headers: Headers, body: bytes) -> bytes:
    lines = []
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        _check_header_name(name)
        # Printable is the quick answer for nearly all; the pattern knows tabs and letters of every script.
        if not value.isprintable() and not _HEADER_VALUE.fullmatch(value):
            raise Invalid(f"The value of the header {name} cannot be sent.")
        lines.append(f"{name}: {value}\r\n")
    return f"{start}{len(body)}\r\n{''.join(lines)}\r\n".encode() + body


@lru_cache(maxsize=4096)
def _check_header_name(name: str) -> None:
    if name.lower() in _FRAMING or not _HEADER_NAME.fullmatch(name):
        raise Invalid("A header has a name that cannot be sent.")


def _text_of(body: bytes) -> str:
    if not body:
        return ""
    text = body[:TEXT_LIMIT].decode("utf-8", "replace").replace("\0", "\ufffd")
    encoded = text.encode()
    # A replacement character takes three bytes, and the cut may fall inside a character.
    return text if len(encoded) <= TEXT_LIMIT else encoded[:TEXT_LIMIT].decode("utf-8", "ignore")


def _read_proxy(url: str) -> _Proxy:
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise SettingsError("The outbound proxy is http://[user:password@]host:port.")
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = f"proxy-authorization: Basic {base64.b64encode(credentials).decode()}\r\n"
    try:
        literal: tuple[str, ...] = (str(ipaddress.ip_address(parts.hostname)),)
    except ValueError:
        literal = ()
    return _Proxy(parts.hostname, port, literal, authorization)
