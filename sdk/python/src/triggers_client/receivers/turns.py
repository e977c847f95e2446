"""The turn of one webhook, without a framework: claimed before the handler, then finished or forgotten."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from triggers_client.receivers.seen import AsyncSeen, Seen
from triggers_client.webhooks import Webhook

SyncHandler = Callable[[Webhook], object]
AnyHandler = Callable[[Webhook], Awaitable[object] | object]


def take_turn(webhook: Webhook, handler: SyncHandler, seen: Seen | None) -> None:
    """Call the handler, unless another attempt of the same delivery was handled.

    Raises:
        StillHandled: another attempt is being handled. To answer 2xx would lose it if its handler fails.
    """
    if seen is not None and not seen.claim(webhook.key):
        return
    try:
        handler(webhook)
    except BaseException:
        if seen is not None:
            seen.forget(webhook.key)
        raise
    if seen is not None:
        seen.finish(webhook.key)


async def take_turn_async(webhook: Webhook, handler: AnyHandler, seen: Seen | AsyncSeen | None) -> None:
    """As `take_turn`, for handlers and objects that may have coroutines."""
    if seen is not None and not await _result(seen.claim(webhook.key)):
        return
    try:
        await _result(handler(webhook))
    except BaseException:
        if seen is not None:
            await _result(seen.forget(webhook.key))
        raise
    if seen is not None:
        await _result(seen.finish(webhook.key))


async def _result(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found
