"""The organisation of a key, its keys, and the operator's routes over all organisations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.domain import TENANT_SCOPES, Caller, Organisation, OrgId, Plan, Scope, parse_id, rfc3339
from triggers.errors import Forbidden, Invalid, NotFound
from triggers.http.route import Answer, Route
from triggers.http.views import (
    Cursor,
    Limit,
    Timestamp,
    moment_of,
    next_cursor,
    optional_timestamp,
    page_request,
)
from triggers.keys import organisations
from triggers.keys import store as api_keys
from triggers.keys.store import ApiKey
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


class OrganisationView(msgspec.Struct, kw_only=True):
    """An organisation. `requests_per_minute` is null where there is no limit."""

    id: UUID
    name: str
    plan: Plan
    requests_per_minute: int | None
    created_at: Timestamp


class WhoAmI(msgspec.Struct, kw_only=True):
    """The organisation that the key belongs to, and what the key may do."""

    id: UUID
    name: str
    plan: Plan
    requests_per_minute: int | None
    key_id: UUID
    key_prefix: str
    scopes: list[Scope]


class ApiKeyView(msgspec.Struct, kw_only=True):
    """A key without its secret."""

    id: UUID
    name: str | None
    prefix: str
    scopes: list[Scope]
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None


class NewApiKey(ApiKeyView, kw_only=True):
    """A key that was just made. `key` is in no other answer."""

    key: str


class ApiKeyList(msgspec.Struct):
    """Part of the list of keys."""

    data: list[ApiKeyView]
    next_cursor: str | None


class ApiKeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A key to make. Without scopes it gets all that the caller's key has, but `admin`."""

    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    scopes: list[Scope] | None = None
    live: bool = False
    expires_at: Timestamp | None = None


class RotateBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How long the old key goes on."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * 86_400)] = 86_400


class OrganisationBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An organisation to make."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    plan: Plan = Plan.FREE
    requests_per_minute: Annotated[int, Meta(ge=1)] | None = None


class PlanBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A plan to set; `requests_per_minute` is for enterprise alone, null for no limit."""

    plan: Plan
    requests_per_minute: Annotated[int, Meta(ge=1)] | None = None


class OrganisationList(msgspec.Struct):
    """Part of the list of organisations."""

    data: list[OrganisationView]
    next_cursor: str | None


class KeyRoutes:
    """Handlers of this room's URLs."""

    def __init__(self, database: Database, clock: DatabaseClock) -> None:
        self._database = database
        self._clock = clock

    async def get_org(self, caller: Caller) -> WhoAmI:
        """Say whose key this is: a cheap proof that it works."""
        return WhoAmI(
            id=caller.org_id,
            name=caller.org_name,
            plan=caller.plan,
            requests_per_minute=caller.requests_per_minute,
            key_id=caller.key_id,
            key_prefix=caller.key_prefix,
            scopes=sorted(caller.scopes),
        )

    async def list_keys(self, caller: Caller, limit: Limit = 100, cursor: Cursor = None) -> ApiKeyList:
        """List the organisation's keys in the order they were made, revoked ones too."""
        return await self._listed(caller.org_id, limit, cursor)

    async def create_key(self, caller: Caller, data: ApiKeyBody) -> NewApiKey:
        """Make a key; the answer alone shows it. No key grants scopes that it lacks."""
        scopes = caller.scopes - {Scope.ADMIN} if data.scopes is None else frozenset(data.scopes)
        _check_grant(scopes, caller.scopes)
        return await self._create(caller.org_id, data, scopes)

    async def rotate_key(self, caller: Caller, key_id: str, data: RotateBody | None = None) -> NewApiKey:
        """Make a successor with the same scopes and expiry; the old key goes on for the overlap."""
        old = await self._find(caller.org_id, key_id)
        _check_grant(frozenset(old.scopes), caller.scopes)
        overlap = timedelta(seconds=(data or RotateBody()).overlap_seconds)
        return _new(await api_keys.rotate(self._database, self._clock, caller.org_id, old, overlap))

    async def revoke_key(self, caller: Caller, key_id: str) -> ApiKeyView:
        """Revoke a key; it stops working within a second. Twice is as once."""
        found = await self._find(caller.org_id, key_id)
        return _view(await api_keys.revoke(self._database, caller.org_id, found.id))

    async def admin_list_orgs(
        self, caller: Caller, limit: Limit = 100, cursor: Cursor = None
    ) -> OrganisationList:
        """List all organisations in the order they were made."""
        del caller
        page = page_request(cursor, limit)
        found = await organisations.listed(self._database, page)
        return OrganisationList(
            [_organisation(each) for each in found],
            next_cursor(found, page),
        )

    async def admin_create_org(self, caller: Caller, data: OrganisationBody) -> OrganisationView:
        """Make an organisation with its default inbox."""
        del caller
        return _organisation(
            await organisations.create(
                self._database,
                self._clock,
                data.name,
                data.plan,
                data.requests_per_minute,
            )
        )

    async def admin_set_plan(self, caller: Caller, org_id: str, data: PlanBody) -> OrganisationView:
        """Change an organisation's plan; every node follows within a second."""
        del caller
        org = await self._organisation_of(org_id)
        changed = await organisations.set_plan(
            self._database, OrgId(org.id), data.plan, data.requests_per_minute
        )
        return _organisation(changed)

    async def admin_list_keys(
        self, caller: Caller, org_id: str, limit: Limit = 100, cursor: Cursor = None
    ) -> ApiKeyList:
        """List the keys of any organisation."""
        del caller
        return await self._listed(OrgId((await self._organisation_of(org_id)).id), limit, cursor)

    async def admin_create_key(self, caller: Caller, org_id: str, data: ApiKeyBody) -> NewApiKey:
        """Make a key of any organisation, with all scopes but `admin` unless told otherwise."""
        del caller
        org = await self._organisation_of(org_id)
        scopes = TENANT_SCOPES if data.scopes is None else frozenset(data.scopes)
        _check_grant(scopes, TENANT_SCOPES)
        return await self._create(OrgId(org.id), data, scopes)

    async def admin_revoke_key(self, caller: Caller, org_id: str, key_id: str) -> ApiKeyView:
        """Revoke a key of any organisation."""
        del caller
        org = OrgId((await self._organisation_of(org_id)).id)
        return _view(await api_keys.revoke(self._database, org, (await self._find(org, key_id)).id))

    async def _create(self, org_id: OrgId, data: ApiKeyBody, scopes: frozenset[Scope]) -> NewApiKey:
        expires_at = moment_of(data.expires_at, "/expires_at")
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise Invalid("Must lie in the future.", pointer="/expires_at")
        async with self._database.connection() as connection:
            new = api_keys.NewKey(scopes, data.name, data.live, expires_at)
            key = await api_keys.create(connection, self._clock, org_id, new)
        return _new(key)

    async def _listed(self, org_id: OrgId, limit: int, cursor: str | None) -> ApiKeyList:
        page = page_request(cursor, limit)
        found = await api_keys.listed(self._database, org_id, page)
        return ApiKeyList([_view(key) for key in found], next_cursor(found, page))

    async def _find(self, org_id: OrgId, key_id: str) -> ApiKey:
        found = parse_id(key_id)
        if found is None:
            raise NotFound("There is no such API key.")
        return await api_keys.by_id(self._database, org_id, found)

    async def _organisation_of(self, org_id: str) -> Organisation:
        found = parse_id(org_id)
        if found is None:
            raise NotFound("There is no such organisation.")
        return await organisations.by_id(self._database, OrgId(found))


# ---- steps ---------------------------------------------------------------------------------------


def _check_grant(wanted: frozenset[Scope], own: frozenset[Scope]) -> None:
    if Scope.ADMIN in wanted:
        raise Forbidden("Keys with the scope `admin` are made by the operator's command line alone.")
    if missing := wanted - own:
        raise Forbidden(f"A key cannot grant what it lacks: {', '.join(sorted(missing))}.")


def _view(key: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        scopes=key.scopes,
        created_at=rfc3339(key.created_at),
        expires_at=optional_timestamp(key.expires_at),
        revoked_at=optional_timestamp(key.revoked_at),
        last_used_at=optional_timestamp(key.last_used_at),
    )


def _new(key: ApiKey) -> NewApiKey:
    return NewApiKey(**msgspec.structs.asdict(_view(key)), key=key.key or "")


def _organisation(org: Organisation) -> OrganisationView:
    return OrganisationView(
        id=org.id,
        name=org.name,
        plan=org.plan,
        requests_per_minute=org.requests_per_minute,
        created_at=rfc3339(org.created_at),
    )


ROUTES = (
    Route("GET", "/v1/org", KeyRoutes.get_org, None),
    Route("GET", "/v1/keys", KeyRoutes.list_keys, Scope.KEYS),
    Route("POST", "/v1/keys", KeyRoutes.create_key, Scope.KEYS, 201),
    Route(
        "POST",
        "/v1/keys/{key_id}/rotate",
        KeyRoutes.rotate_key,
        Scope.KEYS,
        201,
        (Answer(409, "The key is revoked or has expired."),),
    ),
    Route("DELETE", "/v1/keys/{key_id}", KeyRoutes.revoke_key, Scope.KEYS),
    Route("GET", "/v1/admin/orgs", KeyRoutes.admin_list_orgs, Scope.ADMIN),
    Route(
        "POST",
        "/v1/admin/orgs",
        KeyRoutes.admin_create_org,
        Scope.ADMIN,
        201,
        (Answer(409, "There is an organisation of that name."),),
    ),
    Route("PUT", "/v1/admin/orgs/{org_id}/plan", KeyRoutes.admin_set_plan, Scope.ADMIN),
    Route("GET", "/v1/admin/orgs/{org_id}/keys", KeyRoutes.admin_list_keys, Scope.ADMIN),
    Route("POST", "/v1/admin/orgs/{org_id}/keys", KeyRoutes.admin_create_key, Scope.ADMIN, 201),
    Route("DELETE", "/v1/admin/orgs/{org_id}/keys/{key_id}", KeyRoutes.admin_revoke_key, Scope.ADMIN),
)
