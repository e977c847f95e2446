"""Which frames a stream shows, how they are written, and what an outbox holds."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from triggers.domain import AttemptOutcome, KeyId, OrgId
from triggers.http.event_stream import Outbox, StreamLimits
from triggers.streams.frames import (
    AttemptEnded,
    EventStored,
    Frame,
    LeftOut,
    MessagesAvailable,
    gap,
    opening,
)
from triggers.streams.stream import Holder, Output, Stream, Wanted

ID = UUID("019ab0e4-7c11-7d5f-9f6b-3c2a1e5d8b70")


def accepted(event_type: str = "order.paid") -> Frame:
    return Frame("accepted", EventStored(ID, event_type), ID)


def test_a_frame_is_one_block_whatever_the_type_contains() -> None:
    frame = accepted('a"\\ b\u2028c')
    assert frame.text.startswith(b"id: %b\nevent: accepted\ndata: {" % str(ID).encode())
    assert frame.text.count(b"\n") == 4
    assert frame.text.endswith(b"}\n\n")
    assert (
        Frame(None, MessagesAvailable(ID, 2)).text
        == b'data: {"inbox_id":"%b","count":2}\n\n' % str(ID).encode()
    )
    assert opening(ID) == b"retry: 1000\nid: %b\n\n" % str(ID).encode()


@pytest.mark.parametrize(
    ("wanted", "event_type", "fits"),
    [
        (None, "a", True),
        ("*", "triggers.delivery.dead", True),
        ("order.*", "order.paid", True),
        ("order.*", "order", False),
        ("order.*", "orders.paid", False),
        ("order.paid", "order.paid", True),
        ("order.paid", "order.paid.again", False),
    ],
)
def test_types(wanted: str | None, event_type: str, fits: bool) -> None:
    assert Wanted(event_type=wanted).fits(accepted(event_type)) is fits
    assert Wanted(event_type=wanted).fits(gap("too_many"))


def test_an_attempt_of_a_deleted_event_has_no_type() -> None:
    frame = Frame("attempt", AttemptEnded(ID, None, ID, 0, 1, AttemptOutcome.RETRY), ID)
    assert Wanted().fits(frame)
    assert Wanted(event_type="*").fits(frame)
    assert not Wanted(event_type="order.*").fits(frame)


async def test_what_is_too_much_for_a_second_is_counted_before_what_comes_next() -> None:
    shown: list[Frame] = []
    stream = Stream(
        Holder(OrgId(ID), KeyId(ID), OrgId(ID)), Wanted(), Output(shown.append, lambda: None), most=2
    )
    for _ in range(5):
        stream.offer(accepted())
    assert [type(frame.about) for frame in shown] == [EventStored, EventStored]
    stream._second_ends = 0.0  # as if the second were over
    stream.offer(accepted())
    assert [frame.about for frame in shown[2:]] == [LeftOut(3), accepted().about]
    stream.close()


async def test_an_outbox_holds_no_more_than_its_limit() -> None:
    outbox = Outbox(StreamLimits(unread_bytes=10, comment_seconds=0.01))
    outbox.put(b"12345")
    assert await outbox.take() == b"12345"
    outbox.put(b"67890")
    assert not outbox.over.done()
    outbox.was_read(5)
    outbox.put(b"abcde")
    assert await outbox.take() == b"67890abcde"
    assert await outbox.take() == b"", "a comment is due"
    outbox.put(b"!")
    assert outbox.over.done(), "what is being written counts too"
    outbox.put(b"x")
    assert await outbox.take() == b""


async def test_an_outbox_tells_who_waits() -> None:
    outbox = Outbox(StreamLimits())
    waiting = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    outbox.put(b"a")
    assert await waiting == b"a"
    waiting = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    outbox.end()
    assert await waiting == b""
