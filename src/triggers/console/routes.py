"""The URLs of the console, and the objects that answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from triggers.console import (
    event_pages,
    home_pages,
    inbox_pages,
    job_pages,
    sign_in,
    subscription_pages,
    undelivered_pages,
    unmatched_pages,
)
from triggers.console.api import Api
from triggers.console.desk import Desk
from triggers.console.event_pages import EventPages
from triggers.console.home_pages import HomePages
from triggers.console.inbox_pages import InboxPages
from triggers.console.job_pages import JobPages
from triggers.console.sign_in import SignInPages
from triggers.console.subscription_pages import SubscriptionPages
from triggers.console.undelivered_pages import UndeliveredPages
from triggers.console.unmatched_pages import UnmatchedPages
from triggers.http.request import Request
from triggers.http.route import Route
from triggers.sessions.sessions import Sessions

ROUTES = (
    *home_pages.ROUTES,
    *sign_in.ROUTES,
    *event_pages.ROUTES,
    *unmatched_pages.ROUTES,
    *subscription_pages.ROUTES,
    *undelivered_pages.ROUTES,
    *job_pages.ROUTES,
    *inbox_pages.ROUTES,
)


def pages(
    sessions: Sessions, api_routes: Iterable[Route], public_url: Callable[[Request], str], *, dev: bool
) -> tuple[object, ...]:
    """Return the objects whose methods answer `ROUTES`. `api_routes` are already bound to their objects."""
    desk = Desk(sessions, Api(api_routes), public_url)
    return (
        HomePages(desk, dev=dev),
        SignInPages(desk),
        EventPages(desk),
        UnmatchedPages(desk),
        SubscriptionPages(desk),
        UndeliveredPages(desk),
        JobPages(desk),
        InboxPages(desk),
    )
