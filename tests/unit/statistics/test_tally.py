"""What is counted in memory, and which rows are written of it."""

from __future__ import annotations

from uuid import UUID

from triggers.domain import LaneId, OrgId
from triggers.fairness.pace import at_once
from triggers.statistics import tally
from triggers.statistics.tally import PLACES, ROWS, WHOLE, Row, Tally

ORG, OTHER = OrgId(UUID(int=1)), OrgId(UUID(int=2))


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 60_000.0

    def __call__(self) -> float:
        return self.seconds


def lane(number: int, org_id: UUID = ORG) -> LaneId:
    return org_id, UUID(int=1_000 + number)


def deliver(counting: Tally, key: LaneId, number: int = 1) -> None:
    counting.counted()[key].delivered += number


def written(counting: Tally) -> list[Row]:
    """All rows of one flush, which succeeds."""
    rows, _ = at_once(counting.next_rows())
    counting.note_written(rows)
    return rows


class Table:
    """What the database holds after flushes that replace rows."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, LaneId], int] = {}

    def take(self, rows: list[Row]) -> None:
        self.rows |= {(row.minute, row.key): row.counts.delivered for row in rows}

    def delivered(self, key: LaneId) -> int:
        return sum(number for (_, found), number in self.rows.items() if found == key)


def test_a_row_has_absolute_values_and_is_written_only_if_it_changed() -> None:
    counting = Tally(Time())
    deliver(counting, lane(1), 2)
    assert [(row.key, row.counts.delivered) for row in written(counting)] == [((ORG, WHOLE), 2), (lane(1), 2)]
    assert written(counting) == []
    deliver(counting, lane(1), 3)
    assert [(row.key, row.counts.delivered) for row in written(counting)] == [((ORG, WHOLE), 5), (lane(1), 5)]


def test_rows_that_were_not_written_come_again() -> None:
    counting = Tally(Time())
    deliver(counting, lane(1))
    first, _ = at_once(counting.next_rows())
    deliver(counting, lane(1))
    again, _ = at_once(counting.next_rows())
    assert [row.counts.delivered for row in first] == [1, 1], "what is being written does not change"
    assert [row.counts.delivered for row in again] == [2, 2]
    counting.note_written(first)
    assert [row.counts.delivered for row in written(counting)] == [2, 2], (
        "what came since is still to be written"
    )


def test_the_row_of_an_organisation_has_everything_of_it_and_nothing_of_others() -> None:
    counting = Tally(Time())
    counting.accept({ORG: 3, OTHER: 5})
    counting.repeat(ORG, 2)
    deliver(counting, lane(1), 7)
    deliver(counting, lane(2), 11)
    deliver(counting, lane(1, OTHER), 13)
    counting.counted()[lane(2)].lag[4] += 1
    rows = {row.key: row.counts for row in written(counting)}
    assert len(rows) == 5
    whole = rows[ORG, WHOLE]
    assert (whole.accepted, whole.duplicate, whole.delivered, whole.lag[4]) == (3, 2, 18, 1)
    assert (rows[OTHER, WHOLE].accepted, rows[OTHER, WHOLE].delivered) == (5, 13)
    assert rows[lane(1)].accepted == 0


def test_each_minute_has_rows_of_its_own_and_time_does_not_go_back() -> None:
    time = Time()
    counting = Tally(time)
    deliver(counting, lane(1))
    time.seconds += 60
    deliver(counting, lane(1), 2)
    time.seconds -= 30  # rows of the minute before may be written already
    deliver(counting, lane(1), 4)
    rows, more = at_once(counting.next_rows())
    assert more is False
    assert {(row.minute, row.counts.delivered) for row in rows} == {(1_000, 1)}
    counting.note_written(rows)
    assert {(row.minute, row.counts.delivered) for row in written(counting)} == {(1_001, 6)}


def test_subscriptions_without_a_place_are_counted_for_their_organisation() -> None:
    counting = Tally(Time())
    for number in range(3 * PLACES):
        deliver(counting, lane(number))
    table = Table()
    for _ in range(4):
        table.take(written(counting))
    own = {key for _, key in table.rows if key[1] != WHOLE}
    assert len(own) == PLACES // 2, "an organisation has at most as many as are left for the others"
    assert table.delivered((ORG, WHOLE)) == 3 * PLACES
    for number in range(3 * PLACES):
        deliver(counting, lane(number))
    for _ in range(4):
        table.take(written(counting))
    assert {key for _, key in table.rows if key[1] != WHOLE} == own
    assert table.delivered((ORG, WHOLE)) == 6 * PLACES
    deliver(counting, lane(1, OTHER))
    table.take(written(counting))
    assert table.delivered(lane(1, OTHER)) == 1


def test_a_place_is_kept_in_the_next_minute_and_free_after_an_hour() -> None:
    time = Time()
    counting = Tally(time)
    for number in range(PLACES):
        deliver(counting, lane(number))
    time.seconds += 60
    newcomer, kept = lane(PLACES + 1), lane(0)
    deliver(counting, newcomer)
    deliver(counting, kept)
    while at_once(counting.next_rows())[1]:
        written(counting)
    written(counting)
    assert {row.key for row in written(counting)} == {(ORG, WHOLE), kept}
    time.seconds += 62 * 60
    counting.counted()
    time.seconds += 60
    deliver(counting, newcomer)
    assert newcomer in {row.key for row in written(counting)}


def test_a_flush_has_at_most_a_thousand_rows_and_whole_organisations_first() -> None:
    time = Time()
    counting = Tally(time)
    table = Table()
    orgs = [UUID(int=10_000 + number) for number in range(700)]
    for org_id in orgs:
        deliver(counting, lane(1, org_id))
    rows, more = at_once(counting.next_rows())
    assert (len(rows), more) == (ROWS, False)
    assert {row.key[0] for row in rows if row.key[1] == WHOLE} == set(orgs)
    table.take(written(counting))
    assert len(written(counting)) == 400, "the others with the next flush"
    for org_id in orgs:
        deliver(counting, lane(1, org_id))
    time.seconds += 60
    flushes = 0
    while True:
        rows, more = at_once(counting.next_rows())
        table.take(written(counting))
        flushes += 1
        if not more:
            break
    assert flushes == 2, "a minute that is over is written at once, a thousand rows at a time"
    assert all(table.delivered((org_id, WHOLE)) == 2 for org_id in orgs)
    assert all(table.delivered(lane(1, org_id)) == 2 for org_id in orgs)


def test_minutes_are_not_kept_for_ever_for_a_database_that_does_not_answer() -> None:
    time = Time()
    counting = Tally(time)
    for _ in range(tally.ENDED_MINUTES + 5):
        deliver(counting, lane(1))
        time.seconds += 60
    minutes = set()
    while rows := written(counting):
        minutes |= {row.minute for row in rows}
    assert len(minutes) == tally.ENDED_MINUTES
    assert max(minutes) == 1_000 + tally.ENDED_MINUTES + 4
