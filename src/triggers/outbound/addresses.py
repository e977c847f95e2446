"""The table of forbidden addresses, and the only parser of endpoint URLs. Pure.

The host that `read_url` returns is looked up, connected to and written into the request. So no second parser
can see another host in the text.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias
from urllib.parse import SplitResult, quote, urlsplit

from triggers.errors import Invalid

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# `is_global` is not enough: depending on Python's patch release it is true for multicast, 6to4 relays,
# IPv6 forms that carry an IPv4 address and newly reserved blocks. It is asked as well, never alone.
FORBIDDEN: Final = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "Azure's wire server, which looks public"),
    ("169.254.0.0/16", "link-local and cloud metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relays"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved and broadcast"),
    # Only 2000::/3 is assigned for global use.
    ("::/3", "unspecified, loopback, IPv4-compatible, NAT64, discard, and reserved"),
    ("2001::/23", "protocol assignments, Teredo and ORCHID"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4, carries an IPv4 address"),
    ("3fff::/20", "documentation"),
    ("4000::/2", "segment routing, and reserved"),
    ("8000::/1", "unique local, link-local, site-local, multicast, and reserved"),
)
_FORBIDDEN: Final[tuple[Network, ...]] = tuple(ipaddress.ip_network(cidr) for cidr, _ in FORBIDDEN)

URL_LIMIT: Final = 2048
HOST_LIMIT: Final = 253
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_LOOKS_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CONTROLS: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """The operator's rules for deliveries: networks, schemes, time limits and proxy."""

    allow: tuple[Network, ...] = ()
    """Networks that may be reached although the table forbids them."""
    allow_http: bool = False
    connect_timeout_seconds: float = 5.0
    """Time limit for the TCP connection to one address, and once more for TLS."""
    total_timeout_seconds: float = 20.0
    """Time limit from the start of the attempt, including the look-up, to the end of the answer."""
    proxy_url: str | None = None
    """`http://[user:password@]host:port` of an egress proxy that takes CONNECT."""


@dataclass(frozen=True, slots=True)
class EndpointUrl:
    """A URL, read once. `host` is lower-case ASCII: a name, or a literal without brackets."""

    url: str
    """The URL as it was given, but with its host in ASCII."""
    scheme: str
    host: str
    port: int
    path: str
    """Path and query as they go on the wire: ASCII, starts with a slash."""
    literal: Address | None
    authority: str
    """The value of the Host header."""


def permitted(address: Address, allow: tuple[Network, ...] = ()) -> Address | None:
    """The address to connect to, or None when it is forbidden.

    An IPv4-mapped IPv6 address is the IPv4 address that the kernel would dial, and is judged as that.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        address = address.ipv4_mapped or address
    if any(address in network for network in allow):
        return address
    if any(address in network for network in _FORBIDDEN):
        return None
    return address if address.is_global and not address.is_multicast else None


def read_url(url: str) -> EndpointUrl:
    """Reads an endpoint's URL strictly; raises Invalid."""
    if len(url) > URL_LIMIT:
        raise Invalid(f"The URL must have at most {URL_LIMIT} characters.")
    if _CONTROLS.search(url):
        raise Invalid(
            "The URL must not contain spaces, control characters or backslashes. Percent-encode them."
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Invalid("Not a valid URL.") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise Invalid(
            "The URL must begin with https://, or with http:// if the operator allows it with"
            " TRIGGERS_OUTBOUND_ALLOW_HTTP=1."
        )
    if "@" in parts.netloc:
        raise Invalid("The URL must not contain a user name or password. Use a header instead.")
    given, port = read_authority(parts.netloc)
    host, literal = _read_host(given)
    shown = f"[{host}]" if isinstance(literal, IPv6Address) else host
    if not given.isascii() and len(url := _with_host(parts, host, port)) > URL_LIMIT:
        raise Invalid(f"The URL must have at most {URL_LIMIT} characters with its host in ASCII.")
    return EndpointUrl(
        url=url,
        scheme=parts.scheme,
        host=host,
        port=port or _DEFAULT_PORTS[parts.scheme],
        path=_wire_path(parts.path, parts.query),
        literal=literal,
        authority=shown if port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{shown}:{port}",
    )


def origin_of(url: str) -> str | None:
    """Scheme, host and port of a URL in one spelling, such as `https://example.com`; None if it is not valid.

    The port is left out if it is the scheme's default.
    """
    try:
        target = read_url(url)
    except Invalid:
        return None
    return f"{target.scheme}://{target.authority}"


def read_authority(text: str) -> tuple[str, int | None]:
    """The host and the port in what follows `://` in a URL, without user and password; raises Invalid.

    The whole text is read: `urlsplit` skips what stands between an address in brackets and the port.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise Invalid("The URL must have a host after `://`, then at most a port, as in example.com:8443.")
    port = None if found[2] is None else int(found[2])
    if port is not None and not 1 <= port <= 65_535:
        raise Invalid("The port must be a number from 1 to 65535.")
    return found[1], port


def in_unicode(url: str) -> str | None:
    """A stored URL with its internationalised host in Unicode; None if it has no such host."""
    if "xn--" not in url.lower():
        return None
    try:
        parts = urlsplit(url)
        given, port = read_authority(parts.netloc)
    except (ValueError, Invalid):
        return None  # stored by an earlier version, which read less strictly
    host = ".".join(map(_unicode_label, given.lower().split(".")))
    return None if host.isascii() else _with_host(parts, host, port)


def check_url(url: str, policy: OutboundPolicy) -> EndpointUrl:
    """Refuses a URL that no delivery could be sent to; raises Invalid. Looks nothing up.

    A name may still resolve to a forbidden address: that is judged at every connection.
    """
    target = read_url(url)
    literal = target.literal
    if literal is None and (target.host == "localhost" or target.host.endswith(".localhost")):
        literal = IPv4Address("127.0.0.1")
    refused = literal is not None and permitted(literal, policy.allow) is None
    needs_http = target.scheme == "http" and not policy.allow_http
    if literal is not None and literal.is_loopback and (refused or needs_http):
        raise Invalid(_of_this_machine(literal, refused=refused, needs_http=needs_http))
    if needs_http:
        raise Invalid(
            "The URL must begin with https://."
            " The operator can allow http:// with TRIGGERS_OUTBOUND_ALLOW_HTTP=1."
        )
    if refused:
        raise Invalid(
            "Deliveries to this address are not allowed."
            " The operator can allow it with TRIGGERS_OUTBOUND_ALLOW."
        )
    return target


def _of_this_machine(literal: Address, *, refused: bool, needs_http: bool) -> str:
    """Why a receiver on the machine of the service is refused, and what allows it."""
    network = "127.0.0.0/8" if literal.version == 4 else "::1/128"
    settings = [f"TRIGGERS_OUTBOUND_ALLOW={network}"] * refused + [
        "TRIGGERS_OUTBOUND_ALLOW_HTTP=1"
    ] * needs_http
    return (
        "Deliveries to this machine are not allowed. For development, start the service with"
        f" `triggers serve --dev`. Otherwise the operator can allow them with {' and '.join(settings)}."
    )


def _read_host(given: str) -> tuple[str, Address | None]:
    host = given.lower()
    if host.startswith("["):
        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            raise Invalid("The IPv6 address in the URL is not valid.") from None
        if address.scope_id is not None:
            raise Invalid("Deliveries to an IPv6 address with a zone are not possible.")
        return str(address), address
    host = host.removesuffix(".")
    if not host or len(host) > HOST_LIMIT:
        raise Invalid(f"The host of the URL must have 1 to {HOST_LIMIT} characters.")
    labels = [_ascii_label(label) for label in unicodedata.normalize("NFC", host).split(".")]
    host = ".".join(labels)
    if len(host) > HOST_LIMIT:
        raise Invalid(f"The host of the URL must have at most {HOST_LIMIT} characters in ASCII.")
    if _LOOKS_NUMERIC.fullmatch(labels[-1]):
        # The resolver of the system would read 2130706433, 0x7f.1 and 0177.0.0.1 as 127.0.0.1.
        try:
            return host, IPv4Address(host)
        except ValueError:
            raise Invalid("An IPv4 address must be written as four decimal numbers.") from None
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid("The host of the URL is not a valid name.")
    return host, None


def _ascii_label(label: str) -> str:
    """A part of a host name in ASCII, by IDNA 2008.

    Only upper case is converted. The mapping that browsers use (UTS 46) would accept names with invisible
    characters, and would turn fullwidth digits into an address.
    """
    if label.isascii():
        return label
    import idna  # noqa: PLC0415 - slow to import, and seldom used

    try:
        return idna.alabel(label).decode()
    except idna.IDNAError:
        raise Invalid(
            "The host of the URL is not a valid internationalised name (IDNA 2008)."
            " Check it, or write it in its ASCII form (xn--…)."
        ) from None


def _unicode_label(label: str) -> str:
    """A part of a host name in Unicode. An invalid part stays as it is."""
    if not label.startswith("xn--"):
        return label
    import idna  # noqa: PLC0415 - slow to import, and seldom used

    try:
        return idna.ulabel(label)
    except idna.IDNAError:
        return label


def _with_host(parts: SplitResult, host: str, port: int | None) -> str:
    return parts._replace(netloc=host if port is None else f"{host}:{port}").geturl()


def _wire_path(path: str, query: str) -> str:
    # Percent-encoded characters stay as they are. Characters that HTTP forbids in a target are encoded.
    safe = "/:@!$&'()*+,;=~%-._"
    target = quote(path, safe=safe) or "/"
    return f"{target}?{quote(query, safe=safe + '?')}" if query else target
