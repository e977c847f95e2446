"""Lets the key of an operator act for another organisation, which the header `Triggers-Org` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from triggers.domain import TENANT_SCOPES, Caller, Organisation, OrgId, Scope, parse_id
from triggers.errors import Forbidden, NotFound
from triggers.fairness.room import acting_for
from triggers.keys import organisations
from triggers.postgres.database import Database

HEADER: Final = b"triggers-org"


async def caller_by_header(database: Database, own: Caller, fields: Mapping[bytes, bytes]) -> Caller:
    """Return the caller of a request with the header `Triggers-Org`. `own` is the caller of its key.

    The names of `fields` are in lower case.

    Raises:
        Forbidden: the key lacks the scope `admin`.
        NotFound: no organisation has the id in the header.
    """
    require_operator(own)
    acting_for.set(own.org_id)  # which the accept path leaves open
    org_id = parse_id(fields[HEADER].decode("latin-1"))
    try:
        if org_id is None:
            raise NotFound
        return acting(own, await organisations.by_id(database, OrgId(org_id)))
    except NotFound:
        raise NotFound("No organisation has the id in the header `Triggers-Org`.") from None


def acting(own: Caller, org: Organisation) -> Caller:
    """Return the caller that acts for an organisation. For its own organisation, return `own`.

    It may only read, and see payloads only if the key has `events:read`. If the key has the scope `act`, it
    has all scopes of the key except those of the operator.

    Raises:
        Forbidden: the key lacks the scope `admin`.
    """
    require_operator(own)
    if org.id == own.org_id:
        return own
    allowed = TENANT_SCOPES if Scope.ACT in own.scopes else {Scope.EVENTS_READ}
    return msgspec.structs.replace(
        own,
        org_id=OrgId(org.id),
        org_name=org.name,
        plan=org.plan,
        requests_per_minute=org.requests_per_minute,
        scopes=(own.scopes & allowed) | {Scope.READ},
        own_org_id=own.org_id,
    )


def require_operator(own: Caller) -> None:
    """Raise Forbidden unless the key may act for other organisations."""
    if Scope.ADMIN not in own.scopes:
        raise Forbidden(
            "Only a key with the scope `admin` can act for another organisation.", scope=Scope.ADMIN.value
        )
