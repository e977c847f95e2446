"""Which options and organisations a run accepts, and what its code imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from triggers.bench_client.organisation import BenchOrganisation, check_quota, would_match
from triggers.bench_client.service import MeasuredService, reason_of
from triggers.bench_client.size import Profile, ProfileSize
from triggers.bench_client.workload import Workload
from triggers.errors import OperatorError

SERVICE = MeasuredService.at("http://127.0.0.1:8080", "zap_test_x")


@pytest.mark.parametrize(
    ("event_types", "matches"),
    [
        (None, True),
        (["*"], True),
        (["order.*", "triggers-bench.*"], True),
        (["triggers-bench.event"], True),
        (["order.*"], False),
        (["triggers.delivery.dead"], False),
        ([], False),
    ],
)
def test_which_subscriptions_would_get_the_events(event_types: list[str] | None, matches: bool) -> None:
    assert would_match(event_types) is matches


def test_a_quota_is_named_before_it_is_hit() -> None:
    limited = BenchOrganisation(SERVICE, "acme", 1_000, "pro")
    size = ProfileSize(rate=50, seconds=20)
    check_quota(limited, *size.most_requests(Profile.OPEN, 20_000))
    with pytest.raises(OperatorError, match=r"plan pro .* allows 1,000 requests per minute.*up to 1,502"):
        check_quota(limited, *size._replace(rate=75).most_requests(Profile.OPEN, 20_000))
    for profile in (Profile.QUICK, Profile.HEAVY, Profile.LEASE):
        with pytest.raises(OperatorError, match="Nothing was sent"):
            check_quota(limited, *size.most_requests(profile, 20_000))
        check_quota(BenchOrganisation(SERVICE, "acme", None), *size.most_requests(profile, 20_000))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("127.0.0.1:8080", "k"),
        ("ftp://x", "k"),
        ("http://", "k"),
        ("http://x:99999", "k"),
        ("http://x/a b", "k"),
        ("http://x/\r\nhost: y", "k"),
        ("http://x", "k y"),
        ("http://x", "k\r\nhost: y"),
        ("http://x", ""),
    ],
)
def test_options_that_cannot_be_right_are_refused(url: str, key: str) -> None:
    with pytest.raises(OperatorError) as refused:
        MeasuredService.at(url, key)
    assert key.strip() == "" or len(key) == 1 or key not in refused.value.message


def test_requests_are_those_of_the_contract_without_a_version() -> None:
    service = MeasuredService.at("https://[::1]:444/base/", " zap_test_x\n")
    assert (service.host, service.port, service.tls) == ("::1", 444, True)
    head, _, body = Workload(service).send().request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /base/events HTTP/1.1\r\nHost: [::1]:444\r\nX-API-Key: zap_test_x\r\n")
    assert body.startswith(b'{"type":"triggers-bench.event","data":{')
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"


def test_without_an_id_an_acknowledgement_sends_an_event() -> None:
    work = Workload(SERVICE)
    assert work.acknowledge().endpoint == "POST /events"
    work.ids.append("0199a000-0000-7000-8000-000000000001")
    assert b'{"event_ids":["0199a000-' in work.acknowledge().request
    assert not work.ids


def test_texts_of_a_stranger_are_escaped() -> None:
    assert reason_of({"detail": "a\x1b[2Jb"}) == r"a\x1b[2Jb"
    assert "Check --url" in reason_of({})


def test_nothing_of_the_service_is_imported() -> None:
    code = (
        "import pkgutil, sys, importlib, triggers.bench_client as room\n"
        "for each in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'{room.__name__}.{each.name}')\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert "triggers.bench_client.profiles" in loaded
    assert not {each.partition(".")[0] for each in loaded} & {
        "asyncpg",
        "cel_expr_python",
        "cryptography",
        "httpx",
        "rich",
        "starlette",
        "uvicorn",
        "uvloop",
    }
