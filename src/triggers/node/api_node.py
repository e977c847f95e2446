"""The composition root of the API: builds the parts, starts and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from uuid import UUID

from triggers.background import Background
from triggers.console.api import Api
from triggers.console.desk import Desk
from triggers.console.routes import pages
from triggers.deliveries.backlogs import Backlogs
from triggers.deliveries.overview_routes import OverviewRoutes
from triggers.deliveries.routes import DeliveryRoutes
from triggers.domain import MAX_BATCH_BYTES
from triggers.errors import DiskFull
from triggers.events import accept
from triggers.events.accept_for import AcceptFor
from triggers.events.group_commit import Acceptor, WaitingLimits
from triggers.events.routes import EventRoutes
from triggers.events.store import Receipt
from triggers.fairness.room import Places, Room
from triggers.guides.routes import GuideRoutes
from triggers.http import server
from triggers.http.route import Route
from triggers.inboxes.default_inbox import DefaultInboxRoutes
from triggers.inboxes.messages import MessageRoutes
from triggers.inboxes.routes import InboxPolicy, InboxRoutes
from triggers.keys.authentication import KeyCache
from triggers.keys.rate_limit import RateLimiter
from triggers.keys.routes import KeyRoutes
from triggers.node import openapi
from triggers.node.app import build_app
from triggers.node.facts import facts_of
from triggers.node.health import Health
from triggers.node.housekeeping import Housekeeping
from triggers.node.metrics import NodeMetrics
from triggers.node.metrics_server import MetricsServer
from triggers.node.operator_routes import METRICS_PATH, OperatorRoutes
from triggers.node.resources import key_ring_of
from triggers.node.routes import CONSOLE_ROUTES, bind
from triggers.node.settings import Settings
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import API_NAME, Database
from triggers.previews.delivery_tests import DeliveryTestRoutes
from triggers.previews.event_routes import EventPreviewRoutes
from triggers.previews.routes import PAGES_AT_ONCE, PreviewRoutes
from triggers.replays.job import Replaying
from triggers.replays.routes import ReplayRoutes
from triggers.search.routes import SearchRoutes
from triggers.sessions.routes import SessionRoutes
from triggers.sessions.sessions import Sessions
from triggers.statistics import duties as statistics
from triggers.statistics.routes import StatisticsRoutes
from triggers.streams.routes import StreamRoutes
from triggers.streams.streams import Streams
from triggers.subscriptions import sealed as sealed_secrets
from triggers.subscriptions.routes import SubscriptionRoutes
from triggers.system.routes import SystemRoutes
from triggers.wakeups.wakeup import Wakeup


class ApiNode:
    """Everything of one process that serves the API, on a database that is migrated."""

    def __init__(self, settings: Settings, url: str, *, data_dir: Path | None) -> None:
        self.settings = settings
        self._data_dir = data_dir
        self.database = Database(url, pool_size=settings.pool_size, program=API_NAME)
        self.clock = DatabaseClock()
        self.key_ring = key_ring_of(settings, data_dir)
        self.health = Health(self.database)
        self.background = Background()
        self.health.watch(self.background)
        self.wakeup = Wakeup()
        self.streams = Streams(self.database, self.clock, self.wakeup)
        self._limiter = RateLimiter()
        self._keys = KeyCache(self.database, self.clock)
        self.sessions = Sessions(
            self.database, self.clock, self._keys, settings.public_url, settings.root_path
        )
        self.backlogs = Backlogs(self.database, settings.max_pending)
        self.acceptor = Acceptor(
            self.database,
            self.clock,
            dedup_window=settings.dedup_window,
            limits=WaitingLimits(settings.max_waiting_events, settings.max_waiting_bytes),
            committed=self._committed,
        )
        self.health.watch(self.acceptor)
        self.metrics = NodeMetrics(self.health, self.acceptor, self.database)
        # One organisation has half of it, which is a batch at least.
        bodies = Room(2 * max(settings.max_waiting_bytes, MAX_BATCH_BYTES))
        self._accept = accept.AcceptApp(
            self.acceptor,
            accept.Gate(self._keys, self._limiter, self._check_room),
            bodies=bodies,
            log_accepted=settings.log_accepted,
        )
        self._housekeeping = Housekeeping(
            self.database,
            self.health,
            data_dir=data_dir,
            min_free_mib=settings.min_free_disk,
            inbox_retention=settings.inbox_retention,
        )
        self._replaying = Replaying(self.database, self.wakeup)
        self._statistics = statistics.Flush(self.database, self.acceptor.tally)
        self._redis = None
        if settings.redis_url:
            from triggers.wakeups.redis_link import RedisLink  # noqa: PLC0415 - slow to import, and seldom used

            self._redis = RedisLink(settings.redis_url, self.wakeup, self._limiter, self._note_redis)
        routes, metrics = self._routes(), []
        if settings.console == "off":
            routes = [route for route in routes if not route.path.startswith(CONSOLE_ROUTES)]
        if settings.metrics_elsewhere:
            metrics = [route for route in routes if route.path == METRICS_PATH]
            routes = [route for route in routes if route.path != METRICS_PATH]
        self.server = server.make_server(
            build_app(self._keys, self._limiter, bodies, routes),
            shutdown_timeout=settings.shutdown_timeout,
            root_path=settings.root_path,
        )
        self.metrics_server: MetricsServer | None = None
        if metrics:
            app = build_app(self._keys, self._limiter, bodies, metrics)
            self.metrics_server = MetricsServer(settings, app)

    def _routes(self) -> list[Route]:
        """Every route, bound to what answers it."""
        database, clock, wakeup, key_ring = self.database, self.clock, self.wakeup, self.key_ring
        policy = self.settings.outbound_policy()
        places = Places(PAGES_AT_ONCE)

        def stopping() -> bool:
            return self.health.stopping

        operator = OperatorRoutes(self.health, self.metrics, openapi.encoded)
        guides = GuideRoutes(
            operator.document,
            self.settings.public_url,
            console=self.settings.console == "on",
            metrics=not self.settings.metrics_elsewhere,
        )
        routes = bind(
            self._accept,
            KeyRoutes(database, clock),
            SessionRoutes(database, clock, self.settings.public_url),
            SubscriptionRoutes(
                database, key_ring, lambda lane: wakeup.give({lane[0]}, [lane]), clock, policy
            ),
            EventRoutes(database, places),
            DeliveryRoutes(database, wakeup),
            OverviewRoutes(database),
            ReplayRoutes(clock, database),
            StatisticsRoutes(database, places),
            StreamRoutes(database, clock, self.streams),
            SearchRoutes(database, places),
            DefaultInboxRoutes(database),
            InboxRoutes(
                database, clock, key_ring, wakeup, InboxPolicy(policy, self.settings.inbox_retention)
            ),
            MessageRoutes(database, clock, wakeup, stopping),
            PreviewRoutes(database, places),
            DeliveryTestRoutes(database, key_ring, clock, wakeup, stopping),
            EventPreviewRoutes(database, clock, places),
            SystemRoutes(database, lambda: facts_of(self.settings, self.health, self._data_dir)),
            operator,
            guides,
        )
        send = AcceptFor(self.acceptor, self._limiter, self._check_room).accept
        desk = Desk(self.sessions, Api(routes), guides.url)
        console = pages(desk, self.streams, send, dev=self.settings.dev)
        return [*routes, *bind(*console, room="console")]

    async def start(self) -> None:
        """Open the database and start every part but the server."""
        if self.metrics_server is not None:
            await self.metrics_server.start()
            self.background.run("slow requests for metrics", self.metrics_server.sweep())
        await self.database.open()
        await sealed_secrets.require_key(self.database, self.key_ring)
        await self.acceptor.start()
        await self._keys.start()
        await self._housekeeping.watch_disk()
        duties = (
            *self._keys.duties(),
            *self._housekeeping.duties(),
            *self.backlogs.duties(),
            self._replaying.duty(),
            self._statistics.duty(),
            self.streams.duty(),
            *statistics.Upkeep(self.database).duties(),
        )
        for duty in duties:
            self.background.start(duty)
        if self._redis is not None:
            self.health.redis = False
            await self._redis.start()
        self.background.run("accept sums", accept.sum_up(self._accept))
        self.background.run(
            "slow requests",
            server.sweep(self.server, self.settings.receive_timeout, self.settings.keep_alive),
        )

    def begin_to_stop(self) -> None:
        """End what would go on for ever: long polls and streams. Then the server can stop."""
        self.health.stopping = True
        self.streams.end_all()

    async def stop(self) -> None:
        """Stop every part; what is waiting to be stored is stored."""
        if self.metrics_server is not None:
            await self.metrics_server.stop()
        await self.background.stop()
        self.streams.stop()
        self.backlogs.close()
        if self._redis is not None:
            await self._redis.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.acceptor.stop(), self.settings.shutdown_timeout)
        await self._statistics.finish()
        await self._keys.stop()
        await self.database.close()

    def _committed(self, org_ids: set[UUID], receipt: Receipt) -> None:
        self.backlogs.accepted(org_ids)
        for org_id, cost in receipt.charges.items():
            self._limiter.charge(org_id, cost)
        self.wakeup.hand_over(org_ids, receipt.handover)

    def _check_room(self, org_id: UUID) -> None:
        """Raise DiskFull or BacklogFull if no event of an organisation may be stored now."""
        if self.health.disk_full:
            raise DiskFull(retry_after=30)
        if self.backlogs.full:
            self.backlogs.check(org_id)

    def _note_redis(self, up: bool) -> None:
        self.health.redis = up
