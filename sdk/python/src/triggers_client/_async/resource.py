"""The base of all resources: one call with a decoded answer, and lists that are read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic, TypeVar

from triggers_client._async.transport import AsyncTransport
from triggers_client.calls import Call, Method
from triggers_client.decoding import ListPage, Model, decode

M = TypeVar("M", bound=Model)


class AsyncPages(Generic[M]):
    """A list of the service. Iterate over its items, or with `pages()` over its pages."""

    def __init__(
        self, transport: AsyncTransport, path: str, kind: type[M], query: Mapping[str, Any], member: str
    ) -> None:
        self._transport = transport
        self._path = path
        self._kind = kind
        self._query = dict(query)
        self._member = member

    async def __aiter__(self) -> AsyncIterator[M]:
        async for page in self.pages():
            for item in page.data:
                yield item

    async def pages(self) -> AsyncIterator[ListPage[M]]:
        """The pages, from the first one or from the `cursor` of the query."""
        cursor = self._query.get("cursor")
        while True:
            page = await self._page(cursor)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _page(self, cursor: str | None) -> ListPage[M]:
        call = Call("GET", self._path, query={**self._query, "cursor": cursor})
        answer = await self._transport.call(call)
        found = answer.decoded(Model).raw
        items = [decode(self._kind, each) for each in found.get(self._member, ())]
        return ListPage(items, found.get("next_cursor"), found)


class AsyncResource:
    """The base of the resources of a client."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _call(self, kind: type[M], method: Method, path: str, **more: Any) -> M:
        return (await self._transport.call(Call(method, path, **more))).decoded(kind)

    def _pages(
        self, kind: type[M], path: str, query: Mapping[str, Any], member: str = "data"
    ) -> AsyncPages[M]:
        return AsyncPages(self._transport, path, kind, query, member)
