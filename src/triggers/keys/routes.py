"""Organisations and API keys over HTTP, and the admin routes for all organisations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.domain import (
    OPERATOR_SCOPES,
    TENANT_SCOPES,
    Caller,
    Organisation,
    OrgId,
    Plan,
    Scope,
    parse_id,
    rfc3339,
)
from triggers.errors import Forbidden, Invalid, NotFound
from triggers.http.route import Answer, Route
from triggers.http.views import (
    FIRST_PAGE,
    PageQuery,
    Timestamp,
    moment_of,
    next_cursor,
    optional_timestamp,
    page_request,
)
from triggers.keys import deletion, organisations
from triggers.keys import store as api_keys
from triggers.keys.store import ApiKey
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database


class OrganisationView(msgspec.Struct, kw_only=True):
    """An organisation. `requests_per_minute` is null if there is no limit."""

    id: UUID
    name: str
    plan: Plan
    requests_per_minute: int | None
    created_at: Timestamp


class WhoAmI(msgspec.Struct, kw_only=True):
    """The organisation of the API key, and the scopes of the key."""

    id: UUID
    name: str
    plan: Plan
    requests_per_minute: int | None
    key_id: UUID
    key_prefix: str
    scopes: list[Scope]


class ApiKeyView(msgspec.Struct, kw_only=True):
    """An API key, without its secret part."""

    id: UUID
    name: str | None
    prefix: str
    scopes: list[Scope]
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Annotated[
        Timestamp | None,
        Meta(description="Time of the last use. It is stored within a minute after the use."),
    ]


class NewApiKey(ApiKeyView, kw_only=True):
    """A new API key. No other answer contains `key`."""

    key: str


class ApiKeyList(msgspec.Struct):
    """A page of API keys."""

    data: list[ApiKeyView]
    next_cursor: str | None


class ApiKeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A new API key. Without `scopes`, it has the scopes of the caller's key except `admin` and `act`."""

    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    scopes: list[Scope] | None = None
    live: bool = False
    expires_at: Timestamp | None = None


class RotateBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The time for which the old key stays valid."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * 86_400)] = 86_400


class OrganisationBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A new organisation."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    plan: Plan = Plan.FREE
    requests_per_minute: Annotated[int, Meta(ge=1)] | None = None


class PlanBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A new plan. `requests_per_minute` is only for `enterprise`; null means no limit."""

    plan: Plan
    requests_per_minute: Annotated[int, Meta(ge=1)] | None = None


class OrganisationList(msgspec.Struct):
    """A page of organisations."""

    data: list[OrganisationView]
    next_cursor: str | None


class DeletedOrganisationView(msgspec.Struct, kw_only=True):
    """A deleted organisation. `emptied_at` is null while its rows are being deleted."""

    id: UUID
    name: str
    deleted_at: Timestamp
    emptied_at: Timestamp | None


class KeyRoutes:
    """Handlers of this room's URLs."""

    def __init__(self, database: Database, clock: DatabaseClock) -> None:
        self._database = database
        self._clock = clock

    async def get_org(self, caller: Caller) -> WhoAmI:
        """Get the organisation and the scopes of the API key. Use it to check that a key works."""
        return WhoAmI(
            id=caller.org_id,
            name=caller.org_name,
            plan=caller.plan,
            requests_per_minute=caller.requests_per_minute,
            key_id=caller.key_id,
            key_prefix=caller.key_prefix,
            scopes=sorted(caller.scopes),
        )

    async def list_keys(self, caller: Caller, asked: PageQuery = FIRST_PAGE) -> ApiKeyList:
        """List the API keys of the organisation in the order of their creation, including revoked keys."""
        return await self._listed(caller.org_id, asked)

    async def create_key(self, caller: Caller, data: ApiKeyBody) -> NewApiKey:
        """Create an API key. Only this answer contains it.

        A key cannot grant scopes that it lacks.
        """
        scopes = caller.scopes - OPERATOR_SCOPES if data.scopes is None else frozenset(data.scopes)
        _check_grant(scopes, caller.scopes)
        return await self._create(caller.org_id, data, scopes)

    async def rotate_key(self, caller: Caller, key_id: str, data: RotateBody | None = None) -> NewApiKey:
        """Create a new API key with the same scopes and expiry.

        The old key stays valid until the overlap ends.
        """
        old = await self._find(caller.org_id, key_id)
        _check_grant(frozenset(old.scopes), caller.scopes)
        overlap = timedelta(seconds=(data or RotateBody()).overlap_seconds)
        return _new(await api_keys.rotate(self._database, self._clock, caller.org_id, old, overlap))

    async def revoke_key(self, caller: Caller, key_id: str) -> ApiKeyView:
        """Revoke an API key. It stops working within a second.

        Revoking it again changes nothing. Only a key with the scope `admin` can revoke one with that scope.
        """
        found = await self._find(caller.org_id, key_id)
        if Scope.ADMIN in found.scopes:
            caller.require(Scope.ADMIN)
        return _view(await api_keys.revoke(self._database, caller.org_id, found.id))

    async def admin_list_orgs(self, caller: Caller, asked: PageQuery = FIRST_PAGE) -> OrganisationList:
        """List all organisations in the order of their creation."""
        del caller
        page = page_request(asked)
        found = await organisations.listed(self._database, page)
        return OrganisationList(
            [_organisation(each) for each in found],
            next_cursor(found, page),
        )

    async def admin_create_org(self, caller: Caller, data: OrganisationBody) -> OrganisationView:
        """Create an organisation with its default inbox."""
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
        """Change the plan of an organisation. Every node applies it within a second."""
        del caller
        org = await self._organisation_of(org_id)
        changed = await organisations.set_plan(
            self._database, OrgId(org.id), data.plan, data.requests_per_minute
        )
        return _organisation(changed)

    async def admin_delete_org(self, caller: Caller, org_id: str) -> DeletedOrganisationView:
        """Delete an organisation with everything that it has. This cannot be undone.

        Its keys and sessions are refused within a second, and no attempt of its deliveries begins after that.
        Undelivered events are not delivered any more. Its name is free at once. Its rows are deleted in the
        background, from some seconds after the answer on. `emptied_at` says when that was done. Deleting it
        again changes nothing, and shows the same for a day. After that, the answer is 404.
        """
        found = parse_id(org_id)
        if found is None:
            raise NotFound("No organisation has this id.")
        deleted = await deletion.delete(self._database, OrgId(found), caller.own_org_id or caller.org_id)
        return DeletedOrganisationView(
            id=deleted.id,
            name=deleted.name,
            deleted_at=rfc3339(deleted.deleted_at),
            emptied_at=optional_timestamp(deleted.emptied_at),
        )

    async def admin_list_keys(self, caller: Caller, org_id: str, asked: PageQuery = FIRST_PAGE) -> ApiKeyList:
        """List the API keys of an organisation."""
        del caller
        return await self._listed(OrgId((await self._organisation_of(org_id)).id), asked)

    async def admin_create_key(self, caller: Caller, org_id: str, data: ApiKeyBody) -> NewApiKey:
        """Create an API key for an organisation. By default it has all scopes except `admin` and `act`."""
        del caller
        org = await self._organisation_of(org_id)
        scopes = TENANT_SCOPES if data.scopes is None else frozenset(data.scopes)
        _check_grant(scopes, TENANT_SCOPES)
        return await self._create(OrgId(org.id), data, scopes)

    async def admin_revoke_key(self, caller: Caller, org_id: str, key_id: str) -> ApiKeyView:
        """Revoke an API key of an organisation."""
        del caller
        org = OrgId((await self._organisation_of(org_id)).id)
        return _view(await api_keys.revoke(self._database, org, (await self._find(org, key_id)).id))

    async def _create(self, org_id: OrgId, data: ApiKeyBody, scopes: frozenset[Scope]) -> NewApiKey:
        expires_at = moment_of(data.expires_at, "/expires_at")
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise Invalid("Must be in the future.", pointer="/expires_at")
        async with self._database.connection() as connection:
            new = api_keys.NewKey(scopes, data.name, data.live, expires_at)
            key = await api_keys.create(connection, self._clock, org_id, new)
        return _new(key)

    async def _listed(self, org_id: OrgId, asked: PageQuery) -> ApiKeyList:
        page = page_request(asked)
        found = await api_keys.listed(self._database, org_id, page)
        return ApiKeyList([_view(key) for key in found], next_cursor(found, page))

    async def _find(self, org_id: OrgId, key_id: str) -> ApiKey:
        found = parse_id(key_id)
        if found is None:
            raise NotFound("No API key has this id.")
        return await api_keys.by_id(self._database, org_id, found)

    async def _organisation_of(self, org_id: str) -> Organisation:
        found = parse_id(org_id)
        if found is None:
            raise NotFound("No organisation has this id.")
        return await organisations.by_id(self._database, OrgId(found))


# ---- steps ---------------------------------------------------------------------------------------


def _check_grant(wanted: frozenset[Scope], own: frozenset[Scope]) -> None:
    if wanted & OPERATOR_SCOPES:
        raise Forbidden(
            "Only the operator can create keys with the scope `admin` or `act`: in the database, with"
            " `triggers keys create` without an API key."
        )
    if missing := wanted - own:
        raise Forbidden(f"A key cannot grant scopes that it lacks: {', '.join(sorted(missing))}.")


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
    Route("GET", "/v1/keys", KeyRoutes.list_keys, Scope.KEYS, or_scope=Scope.READ),
    Route("POST", "/v1/keys", KeyRoutes.create_key, Scope.KEYS, 201),
    Route(
        "POST",
        "/v1/keys/{key_id}/rotate",
        KeyRoutes.rotate_key,
        Scope.KEYS,
        201,
        (Answer(409, "The key was revoked or has expired."),),
    ),
    Route("DELETE", "/v1/keys/{key_id}", KeyRoutes.revoke_key, Scope.KEYS),
    Route("GET", "/v1/admin/orgs", KeyRoutes.admin_list_orgs, Scope.ADMIN),
    Route(
        "POST",
        "/v1/admin/orgs",
        KeyRoutes.admin_create_org,
        Scope.ADMIN,
        201,
        (Answer(409, "An organisation with this name exists."),),
    ),
    Route("PUT", "/v1/admin/orgs/{org_id}/plan", KeyRoutes.admin_set_plan, Scope.ADMIN),
    Route(
        "DELETE",
        "/v1/admin/orgs/{org_id}",
        KeyRoutes.admin_delete_org,
        Scope.ADMIN,
        202,
        (
            Answer(
                409,
                "It is the organisation of the API key, or the last one with a key of the scope `admin`.",
            ),
        ),
    ),
    Route("GET", "/v1/admin/orgs/{org_id}/keys", KeyRoutes.admin_list_keys, Scope.ADMIN),
    Route("POST", "/v1/admin/orgs/{org_id}/keys", KeyRoutes.admin_create_key, Scope.ADMIN, 201),
    Route("DELETE", "/v1/admin/orgs/{org_id}/keys/{key_id}", KeyRoutes.admin_revoke_key, Scope.ADMIN),
)
