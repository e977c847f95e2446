"""Every row of the table of forbidden addresses, and every way to write an address."""

import ipaddress

import pytest

from triggers.errors import Invalid
from triggers.outbound.addresses import (
    FORBIDDEN,
    OutboundPolicy,
    check_url,
    in_unicode,
    permitted,
    read_url,
)

OPEN = OutboundPolicy(allow_http=True)


def networks(*cidrs: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(cidr) for cidr in cidrs)


@pytest.mark.parametrize("cidr", [cidr for cidr, _ in FORBIDDEN])
def test_every_row_forbids_its_first_and_last_address(cidr: str) -> None:
    network = ipaddress.ip_network(cidr)
    assert permitted(network[0]) is None
    assert permitted(network[-1]) is None
    allowed = permitted(network[-1], (network,))
    assert allowed == (getattr(network[-1], "ipv4_mapped", None) or network[-1])


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.255.255.255",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.31.0.1",
        "192.0.0.8",
        "192.0.0.170",
        "192.88.99.1",
        "192.168.1.1",
        "198.19.255.255",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::7f00:1",
        "100::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "200::1",
        "1fff:ffff::1",
        "4000::1",
        "8000::8.8.8.8",
        "e000::1",
    ],
)
def test_forbidden(address: str) -> None:
    assert permitted(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "168.63.129.17", "2606:4700::1111"]
)
def test_permitted(address: str) -> None:
    assert permitted(ipaddress.ip_address(address)) == ipaddress.ip_address(address)


def test_a_mapped_address_is_the_one_that_is_dialled() -> None:
    mapped = ipaddress.ip_address("::ffff:8.8.8.8")
    assert permitted(mapped) == ipaddress.ip_address("8.8.8.8")
    inside = ipaddress.ip_address("::ffff:10.1.2.3")
    assert permitted(inside, networks("10.0.0.0/8")) == ipaddress.ip_address("10.1.2.3")


def test_the_allow_list_opens_only_what_it_names() -> None:
    allow = networks("10.1.0.0/16", "fd00::/8")
    assert permitted(ipaddress.ip_address("10.1.2.3"), allow) is not None
    assert permitted(ipaddress.ip_address("fd00::1"), allow) is not None
    assert permitted(ipaddress.ip_address("10.2.0.1"), allow) is None
    assert permitted(ipaddress.ip_address("127.0.0.1"), allow) is None
    assert permitted(ipaddress.ip_address("fd00::1%eth0"), allow) is None


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("https://example.com/", "example.com", 443, "/", "example.com"),
        ("HTTPS://EXAMPLE.com:443/A?b=C#d", "example.com", 443, "/A?b=C", "example.com"),
        ("https://example.com.:8443/x", "example.com", 8443, "/x", "example.com:8443"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
        ("https://my_service.example/", "my_service.example", 443, "/", "my_service.example"),
        ("http://a.b:1/%20?x=%zz", "a.b", 1, "/%20?x=%zz", "a.b:1"),
        ("https://a.b/ü/[x]?q=ü&r={}", "a.b", 443, "/%C3%BC/%5Bx%5D?q=%C3%BC&r=%7B%7D", "a.b"),
        ("https://a.b?x=1", "a.b", 443, "/?x=1", "a.b"),
        ("https://a.b/x?u=https://c.d/?e", "a.b", 443, "/x?u=https://c.d/?e", "a.b"),
        ("https://8.8.8.8:65535/", "8.8.8.8", 65535, "/", "8.8.8.8:65535"),
        ("https://8.8.8.8./", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://[2606:4700:0::1111]:8443/", "2606:4700::1111", 8443, "/", "[2606:4700::1111]:8443"),
        (
            "https://" + ".".join(["a" * 63] * 3) + "/",
            ".".join(["a" * 63] * 3),
            443,
            "/",
            ".".join(["a" * 63] * 3),
        ),
    ],
)
def test_reading(url: str, host: str, port: int, path: str, authority: str) -> None:
    target = check_url(url, OPEN)
    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "10.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "0.0.0.0",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.0.0.1",
        "0X7F.1",
        "0177.0.0.1",
        "0177.0.0.01",
        "127.1",
        "127.0.1",
        "127.1.",
        "0",
        "0x",
        "00.0.0.0",
        "1.1.1.1.1",
        "1.1.1.256",
        "foo.0x7f",
        "8.8.8.08",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "127．0．0．1",
        "１２７.0.0.1",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "ＢÜcher.example",
        "bü\u00adcher.example",
        "bü\u200bcher.example",
        "ü_\u2024.example",
        "☃.example",
        "-ü.example",
        "ü" * 60 + ".example",
        ".".join(["ü" * 45] * 5) + ".example",
        "loca\u017fhost",
        "ⅼocalhost",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "[::1]",
        "[::]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[2606:4700::1111%25eth0]",
        "[fd00:ec2::254]",
        "[v1.x]",
        "[127.0.0.1]",
        "[::1",
        "[2606:4700::1111]evil.com",
        "[2606:4700::1111]evil.com:443",
        "[2606:4700::1111].",
        "[2606:4700::1111]443",
        "[2606:4700::1111]:443:1",
        "evil.com[2606:4700::1111]",
        "[[2606:4700::1111]]",
        "[]",
        "::1",
        "127.0.0.1%2f@8.8.8.8",
        "%31%32%37.0.0.1",
        "127.0.0.1\\@example.com",
        "example.com@127.0.0.1",
        "user:password@example.com",
        "@example.com",
        "exa mple.com",
        "exa\tmple.com",
        "exa\nmple.com",
        "example.com\r\nx: y",
        "exam\0ple.com",
        "example.com\u00a0",
        "-a.example",
        "a-.example",
        "a..example",
        ".example",
        "..",
        "",
        ":443",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:-1",
        "example.com:+80",
        "example.com:٤٤٣",
        "example.com:https",
        "a" * 64 + ".example",
        ".".join(["a" * 63] * 4) + ".example",
        "*.example.com",
        "exa<mple.com",
        "exam\u00adple.com",
        "exam\u200bple.com",
        "example\ud800.com",
    ],
)
def test_hosts_that_are_refused(host: str) -> None:
    with pytest.raises(Invalid):
        check_url(f"https://{host}/hook", OPEN)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_",
        "javascript:alert(1)",
        "unix:/run/x.sock",
        " https://example.com/",
        "https://example.com/ ",
        "https://example.com/a b",
        "https://example.com/\r\nx-evil: 1",
        "https://example.com/\x7f",
        "https://example.com\\x",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Invalid):
        check_url(url, OPEN)


@pytest.mark.parametrize(
    ("given", "ascii_url", "unicode_url"),
    [
        (
            "https://bücher.example/ü?q=ü",
            "https://xn--bcher-kva.example/ü?q=ü",
            "https://bücher.example/ü?q=ü",
        ),
        (
            "https://BÜCHER.Example:8443/",
            "https://xn--bcher-kva.example:8443/",
            "https://bücher.example:8443/",
        ),
        ("https://bu\u0308cher.example/", "https://xn--bcher-kva.example/", "https://bücher.example/"),
        ("https://straße.example/", "https://xn--strae-oqa.example/", "https://straße.example/"),
        ("https://例え.テスト./a", "https://xn--r8jz45g.xn--zckzah/a", "https://例え.テスト/a"),
        (
            "https://my_service.ü.example/",
            "https://my_service.xn--tda.example/",
            "https://my_service.ü.example/",
        ),
        ("https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x", "https://bücher.example/x"),
        ("https://XN--BCHER-KVA.example/x", "https://XN--BCHER-KVA.example/x", "https://bücher.example/x"),
        ("https://xn--a.example/", "https://xn--a.example/", None),
        ("https://example.com/xn--bcher-kva", "https://example.com/xn--bcher-kva", None),
        ("HTTPS://Example.com", "HTTPS://Example.com", None),
    ],
)
def test_an_internationalised_host_has_two_forms(given: str, ascii_url: str, unicode_url: str | None) -> None:
    target = check_url(given, OPEN)
    assert target.url == ascii_url
    assert target.host.isascii()
    assert target.authority.isascii()
    assert in_unicode(target.url) == unicode_url
    assert check_url(target.url, OPEN) == target, "the stored form means the same"


def test_an_internationalised_host_is_judged_by_its_ascii_form() -> None:
    with pytest.raises(Invalid, match="not allowed"):
        check_url("https://\u212aey.localhost/", OPEN)  # the Kelvin sign is a capital k


def test_a_url_that_is_too_long_in_ascii_is_refused() -> None:
    with pytest.raises(Invalid, match="in ASCII"):
        check_url("https://ü.example/" + "x" * 2028, OPEN)


def test_plain_http_only_when_the_operator_says_so() -> None:
    with pytest.raises(Invalid):
        check_url("http://example.com/", OutboundPolicy())
    assert check_url("http://example.com/", OPEN).port == 80


def test_the_allow_list_opens_literals_and_localhost() -> None:
    policy = OutboundPolicy(allow=networks("127.0.0.0/8", "::1/128"), allow_http=True)
    for url in ("http://127.0.0.1:1/", "https://[::1]/", "https://localhost/", "http://[::ffff:127.0.0.1]/"):
        check_url(url, policy)
    with pytest.raises(Invalid):
        check_url("http://10.0.0.1/", policy)


def test_refusals_do_not_say_what_the_address_is() -> None:
    with pytest.raises(Invalid) as caught:
        check_url("https://169.254.169.254/", OPEN)
    assert "169" not in str(caught.value)


def test_reading_judges_nothing() -> None:
    assert read_url("http://127.0.0.1/").host == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "policy", "settings"),
    [
        (
            "http://localhost:9000/",
            OutboundPolicy(),
            "TRIGGERS_OUTBOUND_ALLOW=127.0.0.0/8 and TRIGGERS_OUTBOUND_ALLOW_HTTP=1",
        ),
        ("https://127.0.0.1/", OutboundPolicy(), "TRIGGERS_OUTBOUND_ALLOW=127.0.0.0/8"),
        ("https://[::1]/", OutboundPolicy(), "TRIGGERS_OUTBOUND_ALLOW=::1/128"),
        (
            "http://127.0.0.1/",
            OutboundPolicy(allow=(ipaddress.ip_network("127.0.0.0/8"),)),
            "TRIGGERS_OUTBOUND_ALLOW_HTTP=1",
        ),
    ],
)
def test_the_refusal_of_a_local_receiver_names_the_flag_and_the_settings(
    url: str, policy: OutboundPolicy, settings: str
) -> None:
    with pytest.raises(Invalid) as refused:
        check_url(url, policy)
    assert "`triggers serve --dev`" in refused.value.message
    assert refused.value.message.endswith(f"allow them with {settings}.")
