"""Pages of jobs that send deliveries again, retry or cancel them: the history, the plan, and the progress."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta
from starlette.responses import Response

from triggers.console.backlog_words import VERBS, name_of_job, state_of_job, tell_job, tell_plan
from triggers.console.desk import Desk, page_route, shown
from triggers.console.forms import texts_in
from triggers.console.health import tell_due
from triggers.console.live import Drawn, Live, LivePart
from triggers.console.story import Piece
from triggers.errors import Conflict, Invalid
from triggers.http.request import Request
from triggers.replays.routes import DEFAULT_RATE, ReplayRoutes, ReplayView
from triggers.sessions.sessions import Session
from triggers.streams.stream import Wanted
from triggers.subscriptions.routes import SubscriptionRoutes

_PAGE: Final = "50"
_AGAIN_SECONDS: Final = 2
"""No frame of a stream tells of the progress of a job, so its page is drawn again after this time."""
Text = Annotated[str, Meta(max_length=300)]


class AskedJob(NamedTuple):
    """A job that somebody plans, as texts. Empty ones are not used."""

    subscription_id: str = ""
    action: str = "replay"
    since: str = ""
    until: str = ""
    types: str = ""
    rate: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> AskedJob:
        """Return the job in a query or a form. The API says which of its texts are wrong."""
        return cls(**texts_in(given, cls._fields))

    def body(self, *, plan_only: bool) -> dict[str, Any]:
        """Return the body of the request to the API.

        Raises:
            Invalid: the rate is not a number.
        """
        if self.rate and not re.fullmatch("[0-9]{1,6}", self.rate):
            raise Invalid("The number of deliveries per second must be a whole number.")
        types = [each for each in re.split(r"[\s,]+", self.types) if each]
        return {
            "subscription_id": self.subscription_id,
            "action": self.action,
            "since": self.since or None,
            "until": self.until or None,
            "event_types": types or None,
            "rate": int(self.rate or DEFAULT_RATE),
            "plan_only": plan_only,
        }


class JobPages:
    """Handlers of these pages."""

    def __init__(self, desk: Desk, live: Live) -> None:
        self.desk = desk
        self._live = live

    @shown
    async def jobs(self, request: Request, subscription_id: Text = "", cursor: Text = "") -> Response:
        """List jobs, newest first."""
        session = await self.desk.session(request)
        found = await self.desk.api.ask(
            session.caller,
            ReplayRoutes.list_replays,
            subscription_id=subscription_id or None,
            limit=_PAGE,
            cursor=cursor or None,
        )
        return await self.desk.page(
            request,
            session,
            "jobs.html",
            rows=[(job, name_of_job(job), state_of_job(job)) for job in found.data],
            running=sum(job.status == "running" for job in found.data),
            subscription_id=subscription_id,
            next_cursor=found.next_cursor,
            later=bool(cursor),
        )

    @shown
    async def plan(self, request: Request) -> Response:
        """Show what a job would do. Nothing is changed."""
        session = await self.desk.session(request)
        return await self._plan(request, session, AskedJob.of(request.query_params))

    @shown
    async def create(self, request: Request) -> Response:
        """Create the job that a plan described, and show its progress."""
        session, form = await self.desk.posted(request)
        asked = AskedJob.of(form)
        try:
            answer = await self.desk.api.ask(
                session.caller, ReplayRoutes.create_replay, asked.body(plan_only=False), request
            )
        except (Conflict, Invalid) as error:
            return await self._plan(request, session, asked, said=str(error))
        job = msgspec.json.decode(bytes(answer.body), type=ReplayView)
        return self.desk.to(request, f"/jobs/{job.id}")

    @shown
    async def job(self, request: Request, job_id: str) -> Response:
        """Show the progress of a job."""
        session = await self.desk.session(request)
        return (await self._job(request, session, "job.html", job_id))[0]

    async def live(self, request: Request, job_id: str) -> Response:
        """Keep the page of a job up to date."""

        async def draw(session: Session, _: int) -> Drawn:
            drawn, again_seconds = await self._job(request, session, "job_live.html", job_id)
            return Drawn(bytes(drawn.body), again_seconds)

        return await self._live.answer(request, LivePart(ReplayRoutes.get_replay, Wanted(), draw))

    @shown
    async def cancel(self, request: Request, job_id: str) -> Response:
        """Cancel a job. It keeps what it has done."""
        session, _ = await self.desk.posted(request)
        await self.desk.api.ask(session.caller, ReplayRoutes.cancel_replay, replay_id=job_id)
        return self.desk.to(request, f"/jobs/{job_id}")

    async def _job(
        self, request: Request, session: Session, template: str, job_id: str
    ) -> tuple[Response, int | None]:
        job = await self.desk.api.ask(session.caller, ReplayRoutes.get_replay, replay_id=job_id)
        again_seconds = _AGAIN_SECONDS if job.status == "running" else None
        shown_page = await self.desk.page(
            request,
            session,
            template,
            job=job,
            name=name_of_job(job),
            state=state_of_job(job),
            sentences=tell_job(job),
            may_cancel=self.desk.api.may(session.caller, ReplayRoutes.cancel_replay),
        )
        return shown_page, again_seconds

    async def _late(self, session: Session, plan: ReplayView) -> list[Piece]:
        """Say why the deliveries of a plan are not all sent at once, as far as the caller may know."""
        if plan.action == "cancel" or not plan.planned or plan.subscription_kind != "push":
            return []
        asked = SubscriptionRoutes.get_subscription
        to = await self.desk.api.ask(session.caller, asked, subscription_id=str(plan.subscription_id))
        late = tell_due(to)
        return [Piece(f" {late}")] if late else []

    async def _plan(
        self, request: Request, session: Session, asked: AskedJob, said: str | None = None
    ) -> Response:
        now, plan, sentences = datetime.now(UTC), None, []
        try:
            answer = await self.desk.api.ask(
                session.caller, ReplayRoutes.create_replay, asked.body(plan_only=True), request
            )
            plan = msgspec.json.decode(bytes(answer.body), type=ReplayView)
            sentences = [*tell_plan(plan), *await self._late(session, plan)]
        except (Conflict, Invalid) as error:
            said = said or str(error)
        return await self.desk.page(
            request,
            session,
            "job_plan.html",
            200 if said is None else 422,
            asked=asked,
            plan=plan,
            verb=VERBS.get(asked.action, "Job"),
            sentences=sentences,
            default_rate=DEFAULT_RATE,
            said=said,
            now=now,
        )


ROUTES = (
    page_route("GET", "/jobs", JobPages.jobs),
    page_route("POST", "/jobs", JobPages.create),
    page_route("GET", "/jobs/new", JobPages.plan),
    page_route("GET", "/jobs/{job_id}", JobPages.job),
    page_route("GET", "/jobs/{job_id}/live", JobPages.live),
    page_route("POST", "/jobs/{job_id}/cancel", JobPages.cancel),
)
