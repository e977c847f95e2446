"""New connections to endpoints: dialled or through the egress proxy, and TLS over either."""

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Final

from triggers.burst import Burst
from triggers.outbound.addresses import EndpointUrl, OutboundPolicy
from triggers.outbound.connection import EndpointConnection
from triggers.outbound.dial import dial
from triggers.outbound.pool import PoolKey
from triggers.outbound.proxy import EgressProxy
from triggers.outbound.result import NoConnection, Reason

_ELSEWHERE: Final = frozenset((Reason.CONNECT, Reason.CONNECT_TIMEOUT, Reason.PROXY))
"""Faults that another address of the same name may not have."""

NO_ROOTS: Final = (
    "No CA root certificates were found, so the certificate of no https:// endpoint can be verified."
    " Install them (ca-certificates on Debian), or set SSL_CERT_FILE or SSL_CERT_DIR, and start again."
)
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""The name of a certificate in a directory from which OpenSSL reads what it needs."""


class Connector:
    """Belongs to one event loop. Holds no connection; one that is open belongs to the caller.

        address ──dial─────────────▶ socket ──┬── https ──▶ TLS ──▶ open
           └─────tunnel of proxy──▶ stream ───┴── http ───────────▶ open

    At any fault or cancellation what was opened so far is closed. Nothing was sent to the endpoint by
    then, so the next of its addresses may be tried.
    """

    def __init__(self, policy: OutboundPolicy, proxy: EgressProxy | None, trust_pem: str | None) -> None:
        """`trust_pem`: further root certificates."""
        self._loop = asyncio.get_running_loop()
        self._connect_timeout_seconds = policy.connect_timeout_seconds
        self._proxy = proxy
        self._tls = _tls_context(trust_pem)
        self._has_roots = _has_roots(self._tls)
        self._burst = Burst(self._loop)

    async def open_any(
        self, target: EndpointUrl, keys: list[PoolKey], deadline: float
    ) -> tuple[EndpointConnection, PoolKey]:
        """A connection to the first of these addresses that takes one. `deadline` is a time of the loop.

        Raises:
            NoConnection: none did; the reason is that of the last one tried.
        """
        failure = NoConnection(Reason.CONNECT)
        for key in keys:
            try:
                return await self._open(target, key.address, deadline), key
            except NoConnection as error:
                failure = error
                if error.reason not in _ELSEWHERE or self._loop.time() >= deadline:
                    break
        raise failure

    async def _open(self, target: EndpointUrl, address: str, deadline: float) -> EndpointConnection:
        if self._proxy is not None:
            transport = await self._proxy.tunnel(address, target.port, deadline)
            return await self._over_tunnel(transport, target, deadline)
        sock = await dial(address, target.port, self._limit(deadline))
        tls = self._tls if target.scheme == "https" else None
        try:
            # Without TLS nothing is waited for: a limit could only run out while this process stood still.
            async with self._tls_faults(deadline) if tls else contextlib.nullcontext():
                _, connection = await self._loop.create_connection(
                    lambda: EndpointConnection(self._loop, self._burst),
                    sock=sock,
                    ssl=tls,
                    server_hostname=target.host if tls else None,
                )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _over_tunnel(
        self, transport: asyncio.Transport, target: EndpointUrl, deadline: float
    ) -> EndpointConnection:
        connection = EndpointConnection(self._loop, self._burst)
        inner: asyncio.BaseTransport | None = transport
        if target.scheme == "https":
            try:
                async with self._tls_faults(deadline):
                    inner = await self._loop.start_tls(
                        transport, connection, self._tls, server_hostname=target.host
                    )
            except BaseException:
                transport.abort()
                raise
        else:
            transport.set_protocol(connection)
        if inner is None:
            raise NoConnection(Reason.CLOSED)
        connection.connection_made(inner)
        return connection

    def _limit(self, deadline: float) -> float:
        return min(deadline, self._loop.time() + self._connect_timeout_seconds)

    @contextlib.asynccontextmanager
    async def _tls_faults(self, deadline: float) -> AsyncIterator[None]:
        """Convert each failure of a handshake into NoConnection."""
        try:
            async with asyncio.timeout_at(self._limit(deadline)):
                yield
        except ssl.SSLCertVerificationError as error:
            if not self._has_roots:
                raise NoConnection(
                    Reason.INTERNAL, "The service has no CA root certificates, so it cannot verify endpoints."
                ) from None
            raise NoConnection(Reason.TLS, f"The certificate is not valid: {error.verify_message}.") from None
        except TimeoutError:
            raise NoConnection(Reason.TLS_TIMEOUT) from None
        except (OSError, ValueError):
            raise NoConnection(Reason.TLS) from None


def has_roots() -> bool:
    """Whether the system has CA root certificates, without which deliveries to https:// endpoints fail."""
    return _has_roots(_tls_context(None))


def _has_roots(context: ssl.SSLContext) -> bool:
    if context.cert_store_stats()["x509_ca"]:
        return True
    # OpenSSL reads the certificates of a directory one by one, when it needs them.
    directory = ssl.get_default_verify_paths().capath
    try:
        return directory is not None and any(map(_HASHED.fullmatch, os.listdir(directory)))
    except OSError:
        return False


@lru_cache(maxsize=4)
def _tls_context(trust_pem: str | None) -> ssl.SSLContext:
    """Reading the system's roots takes tens of milliseconds; the context is never changed after."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if trust_pem is not None:
        context.load_verify_locations(cadata=trust_pem)
    return context
