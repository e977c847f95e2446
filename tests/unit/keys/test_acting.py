"""What an operator's key may do for another organisation."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime

import pytest

from triggers.domain import Caller, KeyId, Organisation, OrgId, Plan, Scope
from triggers.errors import Forbidden
from triggers.keys.acting import acting

OTHER = Organisation(
    id=uuid.uuid4(), name="other", plan=Plan.FREE, requests_per_minute=100, created_at=datetime.now(UTC)
)


def caller(*scopes: Scope) -> Caller:
    return Caller(
        org_id=OrgId(uuid.uuid4()),
        org_name="own",
        plan=Plan.ENTERPRISE,
        requests_per_minute=None,
        key_id=KeyId(uuid.uuid4()),
        key_prefix="zap_live_abc",
        scopes=frozenset(scopes),
        expires_at=math.inf,
    )


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([Scope.ADMIN], [Scope.READ]),
        ([Scope.ADMIN, Scope.EVENTS_READ], [Scope.READ, Scope.EVENTS_READ]),
        ([Scope.ADMIN, Scope.INBOX, Scope.KEYS, Scope.SUBSCRIPTIONS, Scope.EVENTS_WRITE], [Scope.READ]),
        ([Scope.ADMIN, Scope.ACT], [Scope.READ]),
        ([Scope.ADMIN, Scope.ACT, Scope.SUBSCRIPTIONS], [Scope.READ, Scope.SUBSCRIPTIONS]),
        (list(Scope), [scope for scope in Scope if scope not in (Scope.ADMIN, Scope.ACT)]),
    ],
)
def test_its_scopes(own: list[Scope], expected: list[Scope]) -> None:
    operator = caller(*own)
    found = acting(operator, OTHER)
    assert found.scopes == set(expected)
    assert (found.org_id, found.org_name, found.own_org_id) == (OTHER.id, "other", operator.org_id)
    assert (found.plan, found.requests_per_minute) == (Plan.FREE, 100)
    assert (found.key_id, found.key_prefix) == (operator.key_id, operator.key_prefix)


@pytest.mark.parametrize("own", [[], [Scope.ACT], [scope for scope in Scope if scope != Scope.ADMIN]])
def test_only_an_operator_may(own: list[Scope]) -> None:
    with pytest.raises(Forbidden) as refused:
        acting(caller(*own), OTHER)
    assert refused.value.facts == {"scope": "admin"}


def test_its_own_organisation_is_no_other() -> None:
    operator = caller(Scope.ADMIN)
    own = Organisation(
        id=operator.org_id, name="own", plan=Plan.FREE, requests_per_minute=1, created_at=OTHER.created_at
    )
    assert acting(operator, own) is operator
