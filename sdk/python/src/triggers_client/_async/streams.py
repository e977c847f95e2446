"""Server-Sent Events of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from triggers_client._async.transport import AsyncTransport
from triggers_client.calls import Call, pause_seconds
from triggers_client.errors import ConnectionFailed, OutcomeUnknown, RateLimited, Unavailable
from triggers_client.frames import Frame, FrameReader

_PAUSE_SECONDS = 1.0


class AsyncStream:
    """The frames of a stream, from now on. It connects again when the connection ends, until you stop."""

    def __init__(self, transport: AsyncTransport, call: Call) -> None:
        self._transport = transport
        self._call = call

    async def __aiter__(self) -> AsyncIterator[Frame]:
        reader = FrameReader()
        while True:
            pause = _PAUSE_SECONDS
            try:
                async for line in self._transport.lines(self._call, reader.last_id):
                    if (frame := reader.read(line)) is not None:
                        yield frame
            except (ConnectionFailed, OutcomeUnknown):
                pass  # the service or a proxy in front of it restarts
            except (RateLimited, Unavailable) as error:  # other streams have to end first
                pause = max(pause_seconds(error, 0), _PAUSE_SECONDS)
            reader.restart()
            await asyncio.sleep(pause)
