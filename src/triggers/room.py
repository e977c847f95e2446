"""Bounded memory that tenants share: however much one of them takes, another one still finds room."""

from __future__ import annotations

from uuid import UUID


class Room:
    """Counts what each tenant holds of something bounded.

    After taking, a tenant holds at most as much as is then still free. So one that takes all it can get
    has a half, two have a third each, and whoever comes next finds as much. A tenant that holds nothing
    gets what it asks for as long as that fits.
    """

    __slots__ = ("_held", "capacity", "taken")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._held: dict[UUID, int] = {}

    def take(self, org_id: UUID, amount: int) -> bool:
        """Take this much more for a tenant; False, and nothing is taken, if there is no room for that."""
        if not amount:
            return True
        before = self._held.get(org_id, 0)
        free = self.capacity - self.taken - amount
        if before + amount > free and (before or free < 0):
            return False
        self._held[org_id] = before + amount
        self.taken += amount
        return True

    def give_back(self, org_id: UUID, amount: int) -> None:
        """Give back some of what a tenant took."""
        if not amount:
            return
        left = self._held[org_id] - amount
        self.taken -= amount
        if left:
            self._held[org_id] = left
        else:
            del self._held[org_id]
