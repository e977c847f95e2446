"""The URLs of the console, and the objects that answer them."""

from __future__ import annotations

from triggers.console import (
    access_pages,
    back_pages,
    event_list_pages,
    event_pages,
    home_pages,
    inbox_pages,
    job_pages,
    organisation_pages,
    overview_pages,
    send_pages,
    sign_in,
    subscription_edit_pages,
    subscription_pages,
    system_pages,
    undelivered_pages,
    unmatched_pages,
)
from triggers.console.access_pages import AccessPages
from triggers.console.back_pages import BackPages
from triggers.console.desk import Desk
from triggers.console.event_list_pages import EventListPages
from triggers.console.event_pages import EventPages
from triggers.console.home_pages import HomePages
from triggers.console.inbox_pages import InboxPages
from triggers.console.job_pages import JobPages
from triggers.console.live import Live
from triggers.console.organisation_pages import OrganisationPages
from triggers.console.overview_pages import OverviewPages
from triggers.console.send_pages import Send, SendPages
from triggers.console.sign_in import SignInPages
from triggers.console.subscription_edit_pages import SubscriptionEditPages
from triggers.console.subscription_pages import SubscriptionPages
from triggers.console.system_pages import SystemPages
from triggers.console.undelivered_pages import UndeliveredPages
from triggers.console.unmatched_pages import UnmatchedPages
from triggers.streams.streams import Streams

ROUTES = (
    *home_pages.ROUTES,
    *sign_in.ROUTES,
    *overview_pages.ROUTES,
    *event_list_pages.ROUTES,
    *event_pages.ROUTES,
    *unmatched_pages.ROUTES,
    *subscription_pages.ROUTES,
    *subscription_edit_pages.ROUTES,
    *undelivered_pages.ROUTES,
    *job_pages.ROUTES,
    *inbox_pages.ROUTES,
    *access_pages.ROUTES,
    *organisation_pages.ROUTES,
    *system_pages.ROUTES,
    *send_pages.ROUTES,
    *back_pages.ROUTES,
)


def pages(desk: Desk, streams: Streams, send: Send, *, dev: bool) -> tuple[object, ...]:
    """Return the objects whose methods answer `ROUTES`."""
    live = Live(desk, streams)
    return (
        HomePages(desk, dev=dev),
        SignInPages(desk),
        OverviewPages(desk, live),
        EventListPages(desk, live),
        EventPages(desk, live),
        UnmatchedPages(desk),
        SubscriptionPages(desk),
        SubscriptionEditPages(desk),
        UndeliveredPages(desk),
        JobPages(desk, live),
        InboxPages(desk),
        AccessPages(desk),
        OrganisationPages(desk),
        SystemPages(desk, live),
        SendPages(desk, send),
        BackPages(desk),
    )
