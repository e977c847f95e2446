"""Values that the key ring has encrypted: checks that they can be decrypted, and re-encrypts them."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from triggers.errors import KeyMissing, OperatorError, SealBroken
from triggers.postgres.database import Database, Row, statements
from triggers.secrets.key_ring import KeyRing, Purpose

_SQL = statements(__name__)
_PURPOSES: Final[tuple[Purpose, ...]] = ("secrets", "headers")
"""The columns that are sealed, in the order of the statement that writes them."""


async def reseal(
    database: Database, ring: KeyRing, after: tuple[UUID, UUID], limit: int
) -> tuple[int, tuple[UUID, UUID] | None]:
    """Re-encrypt values of one slice of subscriptions that lack the ring's first key or the newest format.

    Returns their number, and the position of the next slice, None after the last one. A value that changes
    at the same moment is encrypted by that change, with the first key of the ring of its node.
    """
    rows = await database.fetch(_SQL["sealed"], *after, limit)
    count = 0
    for row in rows:
        old = [row[purpose] for purpose in _PURPOSES]
        if all(sealed is None or ring.is_current(sealed) for sealed in old):
            continue
        new = [_sealed_again(ring, row, purpose) for purpose in _PURPOSES]
        count += await database.row(_SQL["reseal"], row["org_id"], row["id"], *new, *old) is not None
    return count, (rows[-1]["org_id"], rows[-1]["id"]) if len(rows) == limit else None


def _sealed_again(ring: KeyRing, row: Row, purpose: Purpose) -> bytes | None:
    org_id, subscription_id, sealed = row["org_id"], row["id"], row[purpose]
    if sealed is None:
        return None
    text = ring.decrypt(sealed, org=org_id, subscription=subscription_id, purpose=purpose)
    return ring.encrypt(text, org=org_id, subscription=subscription_id, purpose=purpose)


async def require_key(database: Database, ring: KeyRing) -> None:
    """Check that the ring belongs to this database: that it decrypts at least one of some secrets.

    Raises:
        OperatorError: it decrypts none of them. A worker with it would own lanes and send nothing.
    """
    missing: KeyMissing | None = None
    for row in await database.fetch(_SQL["some_sealed"], 20):
        try:
            ring.decrypt(row["secrets"], org=row["org_id"], subscription=row["id"], purpose="secrets")
        except KeyMissing as error:
            missing = error
        except SealBroken:  # a damaged value says nothing about the ring
            continue
        else:
            return
    if missing is not None:
        raise OperatorError(f"The key ring cannot decrypt the secrets of this database. {missing.message}")
