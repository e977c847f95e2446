"""Finds the permitted addresses of URLs. It reads each URL once, and checks each address before its use."""

import ipaddress
from functools import lru_cache
from typing import Final
from uuid import UUID

from triggers.errors import Invalid
from triggers.outbound.addresses import EndpointUrl, OutboundPolicy, permitted, read_url
from triggers.outbound.dns import Found, LookUps, Names
from triggers.outbound.pool import PoolKey
from triggers.outbound.result import NoConnection, Reason

ADDRESSES_TRIED: Final = 3
URLS_KEPT: Final = 4096


class Destination:
    """A URL that was checked, with what is the same for all its requests.

    unknown ──keys(found)──▶ keys of those addresses ──keys(others)──▶ keys of the others
    """

    __slots__ = ("_found", "_keys", "literal", "start", "target")

    def __init__(self, target: EndpointUrl, literal: tuple[str, ...]) -> None:
        """`literal` is the permitted address if the host is one, and empty if the host is a name."""
        self.target = target
        self.literal = literal
        self.start = f"POST {target.path} HTTP/1.1\r\nhost: {target.authority}\r\ncontent-length: "
        self._found: tuple[str, ...] = ()
        self._keys: list[PoolKey] = []

    def keys(self, found: tuple[str, ...]) -> list[PoolKey]:
        """Return the pool keys of the addresses `found`. They are made again only after another look-up."""
        if found is not self._found:
            target = self.target
            self._keys = [
                PoolKey(target.scheme, target.host, target.port, address)
                for address in found[:ADDRESSES_TRIED]
            ]
            self._found = found
        return self._keys


class Destinations:
    """Belongs to one event loop. Every address that leaves here was permitted by the table in `addresses.py`.

    URL ──read──▶ literal, judged at once ──────────────────────▶ keys
             └──▶ name ──known for a few seconds───────────────▶ keys
                    └──look-up in a thread, judged there───────▶ keys, or NoConnection
    """

    def __init__(self, policy: OutboundPolicy, look_ups: LookUps) -> None:
        self._policy = policy
        self._resolver = look_ups.resolver
        self._names = Names(self._permitted_of, keep_seconds=look_ups.keep_seconds)
        self.of = lru_cache(maxsize=URLS_KEPT)(self._read)
        """The destination of a URL. Raises Invalid, or NoConnection for a forbidden literal."""

    def known(self, destination: Destination, now: float) -> list[PoolKey] | None:
        """The keys of a destination whose addresses are known at `now`, a time of the event loop."""
        found = destination.literal or self._names.kept(destination.target.host, now)
        return destination.keys(found) if isinstance(found, tuple) else None

    async def find(self, destination: Destination, org: UUID, deadline: float) -> list[PoolKey]:
        """The keys after a look-up on account of `org`. `deadline` is a time of the event loop.

        Raises:
            NoConnection: the host has no address that may be used, or its look-up had to wait too long.
        """
        return destination.keys(await self._names.addresses(destination.target.host, org, deadline))

    def close(self) -> None:
        """Let the threads of look-ups go."""
        self._names.close()

    def _read(self, url: str) -> Destination:
        target = read_url(url)
        if target.scheme == "http" and not self._policy.allow_http:
            raise Invalid(
                "The URL must begin with https://."
                " The operator can allow http:// with TRIGGERS_OUTBOUND_ALLOW_HTTP=1."
            )
        literal: tuple[str, ...] = ()
        if target.literal is not None:
            address = permitted(target.literal, self._policy.allow)
            if address is None:
                raise NoConnection(Reason.FORBIDDEN_ADDRESS)
            literal = (str(address),)
        return Destination(target, literal)

    def _permitted_of(self, host: str) -> Found:
        """Look up and judge; runs in a thread of Names."""
        found = self._resolver(host)
        addresses = [permitted(ipaddress.ip_address(address), self._policy.allow) for address in found]
        kept = tuple(str(address) for address in addresses if address is not None)
        return kept or (Reason.FORBIDDEN_ADDRESS if found else Reason.DNS)
