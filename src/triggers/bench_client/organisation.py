"""The organisation that a run may use: its own, or one in which there is nothing to spoil."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from triggers.bench_client.progress import RunProgress
from triggers.bench_client.service import MeasuredService, reason_of
from triggers.errors import OperatorError

TYPES: Final = "triggers-bench."
"""The types of all events that a run sends begin with this."""
_OVERRIDE: Final = "--this-organisation-is-disposable"
_CLEANUP_SECONDS: Final = 60


@dataclass
class BenchOrganisation:
    """Where a run sends its events. `service` has the key for it."""

    service: MeasuredService
    name: str
    requests_per_minute: int | None
    plan: str = ""


@asynccontextmanager
async def organisation_for(
    service: MeasuredService, progress: RunProgress, *, disposable: bool
) -> AsyncIterator[BenchOrganisation]:
    """The organisation for a run: one that is made for it if the key has the scope `admin`, else its own.

    Raises:
        OperatorError: the organisation of the key is in use, or the key is not valid.
    """
    status, me = await service.try_ask("GET", "/v1/org")
    if status == 404 and disposable:  # another service with the same contract
        yield BenchOrganisation(service, "unknown", None)
        return
    if status != 200 or "scopes" not in me:
        raise OperatorError(f"The key was not accepted: {status} {reason_of(me)}", status=status)
    if "admin" in me["scopes"]:
        async with _temporary(service, progress) as made:
            yield made
        return
    if not disposable:
        await _refuse_if_used(service, str(me["name"]))
    yield BenchOrganisation(service, str(me["name"]), me["requests_per_minute"], str(me["plan"]))


def check_quota(organisation: BenchOrganisation, requests: float, seconds: float) -> None:
    """Refuse a run that the plan would not allow.

    `requests` is what the run may send at most, within about `seconds`.

    Raises:
        OperatorError: the quota is smaller. Nothing was sent.
    """
    quota = organisation.requests_per_minute
    if quota is None or requests <= quota + quota * seconds / 60:
        return
    raise OperatorError(
        f"The plan {organisation.plan} of the organisation {organisation.name!r} allows {quota:,} requests"
        f" per minute, and this run may send up to {requests:,.0f} in {seconds:.0f} s. Nothing was sent."
        " Use a key with the scope admin, which makes an organisation without a limit, or change the plan"
        " with `triggers orgs set-plan`."
    )


def would_match(event_types: list[str] | None) -> bool:
    """Whether a subscription with these patterns would get events of a run."""
    if event_types is None:
        return True
    return any(each == "*" or each.startswith(TYPES) for each in event_types)


async def _refuse_if_used(service: MeasuredService, name: str) -> None:
    events = await _look(service, "/v1/events?limit=1")
    if events.get("data") or events.get("events"):
        raise OperatorError(_refusal(name, "has events, and events cannot be removed one by one"))
    for path, noun in (("/v1/subscriptions", "subscription"), ("/v1/inboxes", "inbox")):
        async for each in _pages(service, path):
            if noun == "inbox" and each.get("key") == "default":
                continue  # every organisation has it, and this one has no events
            if would_match(each.get("event_types")):
                shown = each.get("key") or each.get("id")
                raise OperatorError(_refusal(name, f"has the {noun} {shown}, which matches {TYPES}*"))


def _refusal(name: str, why: str) -> str:
    return (
        f"The organisation {name!r} {why}. A benchmark sends many events, so it needs an organisation of its"
        " own. Use a key with the scope admin, which makes one, or a key of an empty organisation. If"
        f" everything in this organisation may be spoiled, add {_OVERRIDE}."
    )


async def _look(service: MeasuredService, path: str) -> dict[str, Any]:
    status, found = await service.try_ask("GET", path)
    if status == 403:
        raise OperatorError(
            f"This key may not read {path.partition('?')[0]}, so it is not known whether the organisation is"
            f" in use. Use a key with all scopes, or add {_OVERRIDE} if everything in it may be spoiled."
        )
    if status != 200:
        raise OperatorError(f"GET {path}: {status} {reason_of(found)}", status=status)
    return found


async def _pages(service: MeasuredService, path: str) -> AsyncIterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = await _look(service, f"{path}?limit=1000{cursor}")
        for each in page.get("data") or ():
            yield each
        if not page.get("next_cursor"):
            return
        cursor = f"&cursor={quote(str(page['next_cursor']), safe='')}"


@asynccontextmanager
async def _temporary(operator: MeasuredService, progress: RunProgress) -> AsyncIterator[BenchOrganisation]:
    """An organisation without a limit, which is removed at the end.

    An interrupt waits until the organisation is made: else nobody would know that it has to be removed.
    """
    name = f"bench-{secrets.token_hex(6)}"
    body = {"name": name, "plan": "enterprise"}
    making = asyncio.ensure_future(operator.ask("POST", "/v1/admin/orgs", body))
    try:
        path = f"/v1/admin/orgs/{(await asyncio.shield(making))['id']}"
    except asyncio.CancelledError:
        progress.remains = await _remove(operator, f"/v1/admin/orgs/{(await making)['id']}", name)
        raise
    try:
        key = (await operator.ask("POST", f"{path}/keys", {"name": "triggers bench"}))["key"]
        yield BenchOrganisation(operator.with_key(key), name, None, "enterprise")
    finally:
        progress.begin(f"removing {name}", 1)
        progress.remains = await _remove(operator, path, name)


async def _remove(operator: MeasuredService, path: str, name: str) -> str | None:
    """Delete the organisation. Where the service cannot, revoke its keys; return what remains."""
    try:
        async with asyncio.timeout(_CLEANUP_SECONDS):
            status, answer = await operator.try_ask("DELETE", path)
            if 200 <= status < 300:
                return None
            if status not in {404, 405}:
                return f"The organisation {name} was not deleted: {status} {reason_of(answer)}"
            for each in (await operator.ask("GET", f"{path}/keys"))["data"]:
                await operator.ask("DELETE", f"{path}/keys/{each['id']}")
    except (OperatorError, TimeoutError) as error:
        said = error.message if isinstance(error, OperatorError) else "The service did not answer in time."
        return f"The organisation {name} was not deleted, and its key may still work: {said}"
    return (
        f"The organisation {name} remains with its events, because this version of the service cannot delete"
        " organisations. Its key is revoked, and its subscriptions are deleted."
    )
