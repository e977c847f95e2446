"""The URLs of the console, and the objects that answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from triggers.console import (
    event_pages,
    home_pages,
    overview_pages,
    sign_in,
    subscription_edit_pages,
    subscription_pages,
)
from triggers.console.api import Api
from triggers.console.desk import Desk
from triggers.console.event_pages import EventPages
from triggers.console.home_pages import HomePages
from triggers.console.overview_pages import OverviewPages
from triggers.console.sign_in import SignInPages
from triggers.console.subscription_edit_pages import SubscriptionEditPages
from triggers.console.subscription_pages import SubscriptionPages
from triggers.http.request import Request
from triggers.http.route import Route
from triggers.sessions.sessions import Sessions

ROUTES = (
    *home_pages.ROUTES,
    *sign_in.ROUTES,
    *overview_pages.ROUTES,
    *event_pages.ROUTES,
    *subscription_pages.ROUTES,
    *subscription_edit_pages.ROUTES,
)


def pages(
    sessions: Sessions, api_routes: Iterable[Route], public_url: Callable[[Request], str], *, dev: bool
) -> tuple[object, ...]:
    """Return the objects whose methods answer `ROUTES`. `api_routes` are already bound to their objects."""
    desk = Desk(sessions, Api(api_routes), public_url)
    return (
        HomePages(desk, dev=dev),
        SignInPages(desk),
        OverviewPages(desk),
        EventPages(desk),
        SubscriptionPages(desk),
        SubscriptionEditPages(desk),
    )
