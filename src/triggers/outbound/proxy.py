"""The operator's egress proxy, and tunnels through it to addresses that were judged."""

import asyncio
import base64
import ipaddress
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit
from uuid import UUID

from triggers.errors import Invalid, SettingsError
from triggers.outbound.addresses import read_authority
from triggers.outbound.connection import EndpointConnection
from triggers.outbound.dial import dial
from triggers.outbound.dns import LookUps, Names
from triggers.outbound.result import NoConnection, Reason

_NOBODY: Final = UUID(int=0)
_LOOK_UPS_AT_ONCE: Final = 4


class _Address(NamedTuple):
    """The setting, taken apart. `literal` is empty where the host is a name."""

    host: str
    port: int
    literal: tuple[str, ...]
    authorization: str


class _Tunnel(EndpointConnection):
    """The connection of a CONNECT. Its answer ends with its head; the rest belongs to another protocol."""

    __slots__ = ()

    def give_up_transport(self) -> asyncio.Transport:
        """Hand the open transport to another protocol. This connection cannot be used after that."""
        assert self.transport is not None
        self._drop_parser()
        return self.transport

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.status:
            self._finish(None)

    def _cannot_parse(self) -> None:
        if not self.status:
            super()._cannot_parse()


class EgressProxy:
    """Belongs to one event loop. Holds no connection; a tunnel belongs to the caller.

    proxy's name ──look up──▶ its address ──dial──▶ CONNECT sent ──2xx──▶ tunnel
                       │                      │           │ any other answer, or none in time
                       └──────────────────────┴───────────┴──▶ NoConnection(proxy)
    """

    def __init__(self, url: str, look_ups: LookUps, connect_timeout_seconds: float) -> None:
        """`connect_timeout_seconds` bounds the connection to the proxy.

        Raises:
            SettingsError: `url` is not the URL of a proxy.
        """
        self._address = _read(url)
        self._connect_timeout_seconds = connect_timeout_seconds
        # The proxy's own name is the operator's word and not judged; kept apart, so that no endpoint that
        # happens to name the same host is spared the judgement.
        self._names = Names(look_ups.resolver, places=_LOOK_UPS_AT_ONCE, keep_seconds=look_ups.keep_seconds)

    async def tunnel(self, address: str, port: int, deadline: float) -> asyncio.Transport:
        """A CONNECT to the judged address. `deadline` is a time of the event loop.

        Raises:
            NoConnection: the proxy is at fault, or this process may open no more sockets.
        """
        loop = asyncio.get_running_loop()
        try:
            found = self._address.literal or await self._names.addresses(
                self._address.host, _NOBODY, deadline
            )
            limit = min(deadline, loop.time() + self._connect_timeout_seconds)
            sock = await dial(found[0], self._address.port, limit)
        except NoConnection as error:
            if error.reason is Reason.BUSY:
                raise
            raise NoConnection(Reason.PROXY, "The egress proxy cannot be reached.") from None
        _, connection = await loop.create_connection(lambda: _Tunnel(loop), sock=sock)
        timer = loop.call_at(deadline, connection.time_out)
        opened = False
        try:
            opened = await self._ask(
                connection, f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            )
        finally:
            timer.cancel()
            if not opened:
                connection.abort()
        if not opened:
            status = connection.status
            said = f"answered CONNECT with {status}" if status else "did not answer CONNECT"
            raise NoConnection(Reason.PROXY, f"The egress proxy {said}.")
        return connection.give_up_transport()

    async def _ask(self, connection: _Tunnel, authority: str) -> bool:
        request = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{self._address.authorization}\r\n"
        reason = await connection.exchange(request.encode())
        return reason is None and 200 <= connection.status < 300

    def close(self) -> None:
        """Let the threads of look-ups go."""
        self._names.close()


def _read(url: str) -> _Address:
    refusal = SettingsError("TRIGGERS_OUTBOUND_PROXY must be http://[user:password@]host:port.")
    try:
        parts = urlsplit(url)
        host, port = read_authority(parts.netloc.rpartition("@")[2])
    except (ValueError, Invalid):
        raise refusal from None
    if parts.scheme != "http" or not host:
        raise refusal
    host = host.strip("[]")
    authorization = ""
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = f"proxy-authorization: Basic {base64.b64encode(credentials).decode()}\r\n"
    try:
        literal: tuple[str, ...] = (str(ipaddress.ip_address(host)),)
    except ValueError:
        literal = ()
    return _Address(host, port or 80, literal, authorization)
