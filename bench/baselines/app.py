"""The API of the session: FastAPI, SQLAlchemy, Redis. BASELINE_STEPS names the steps that it has taken.

    BASELINE_STEPS=sha256,prefix BASELINE_DATABASE=postgresql+asyncpg://… BASELINE_REDIS=redis://… \
        python -m uvicorn bench.baselines.app:app
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import bcrypt
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlalchemy import JSON, DateTime, ForeignKey, String, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from bench.baselines.steps import PREFIX_LENGTH

STEPS = frozenset(filter(None, os.environ.get("BASELINE_STEPS", "").split(",")))


class Base(DeclarativeBase):
    """The tables, as bench/baselines/stack.py makes them."""


class Organization(Base):
    __tablename__ = "organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    api_key_hash: Mapped[str]
    api_key_prefix: Mapped[str | None] = mapped_column(String(PREFIX_LENGTH))


class Event(Base):
    __tablename__ = "events"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    type: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    dedup_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class EventDelivery(Base):
    __tablename__ = "event_deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id"))
    status: Mapped[str] = mapped_column(default="PENDING")
    attempts: Mapped[int] = mapped_column(default=0)


class EventCreate(BaseModel):
    """The body of POST /events."""

    type: str
    payload: dict[str, Any]
    dedup_id: str | None = None


class Ack(BaseModel):
    """The body of POST /ack."""

    event_ids: list[UUID]


def make_engine() -> AsyncEngine:
    """Step 3: without it, each request opens a connection."""
    url = os.environ["BASELINE_DATABASE"]
    if "engine-pool" not in STEPS:
        return create_async_engine(url, poolclass=NullPool)
    return create_async_engine(url, pool_size=20, max_overflow=10, pool_pre_ping=True, pool_recycle=3600)


sessions = async_sessionmaker(make_engine())
shared_redis: Redis = Redis.from_url(
    os.environ["BASELINE_REDIS"],
    max_connections=50,
    socket_connect_timeout=5,
    socket_keepalive=True,
    decode_responses=True,
)
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with sessions() as session:
        yield session


async def get_redis() -> AsyncIterator[Redis]:
    """Step 4: without it, each request opens a connection."""
    if "redis-pool" in STEPS:
        yield shared_redis
        return
    async with Redis.from_url(os.environ["BASELINE_REDIS"], decode_responses=True) as redis:
        yield redis


def verify_api_key(api_key: str, api_key_hash: str) -> bool:
    """Step 1. bcrypt blocks the event loop, as it did in the session."""
    if "sha256" in STEPS:
        return secrets.compare_digest(hashlib.sha256(api_key.encode()).hexdigest(), api_key_hash)
    return bcrypt.checkpw(api_key.encode(), api_key_hash.encode())


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_org(session: Session, x_api_key: Annotated[str, Header()]) -> Organization:
    """Step 2: without it, every organisation is read and compared in turn."""
    chosen = select(Organization)
    if "prefix" in STEPS:
        chosen = chosen.where(Organization.api_key_prefix == x_api_key[:PREFIX_LENGTH])
    for org in (await session.execute(chosen)).scalars().all():
        if verify_api_key(x_api_key, org.api_key_hash):
            return org
    raise HTTPException(401, "Invalid API key")


Org = Annotated[Organization, Depends(get_org)]


@app.post("/events", status_code=201)
async def create_event(
    data: EventCreate, org: Org, session: Session, redis: Annotated[Redis, Depends(get_redis)]
) -> JSONResponse:
    """Store an event with its delivery in one transaction, then queue it."""
    org_id = org.id
    if data.dedup_id is not None:
        repeated = select(Event).where(Event.org_id == org_id, Event.dedup_id == data.dedup_id)
        if found := (await session.execute(repeated)).scalars().first():
            return JSONResponse(answer(found.id, found.type, found.created_at), 200)
    event_id, created_at = uuid4(), datetime.now(UTC)
    event = Event(id=event_id, org_id=org_id, created_at=created_at, **data.model_dump())
    session.add(event)
    await session.flush()
    session.add(EventDelivery(event_id=event_id))
    await session.commit()
    if "no-refresh" not in STEPS:
        await session.refresh(event)
        event_id, created_at = event.id, event.created_at
    await redis.lpush("events", f"{org_id}:{event_id}")  # type: ignore[misc]
    return JSONResponse(answer(event_id, data.type, created_at), 201)


def answer(event_id: UUID, kind: str, created_at: datetime) -> dict[str, str]:
    """The body of an answer to POST /events."""
    return {"id": str(event_id), "type": kind, "created_at": created_at.isoformat(), "status": "accepted"}


@app.get("/inbox")
async def read_inbox(org: Org, session: Session, limit: int = 100) -> list[dict[str, Any]]:
    """The newest events that are not delivered."""
    undelivered = (
        select(Event)
        .join(EventDelivery, EventDelivery.event_id == Event.id)
        .where(Event.org_id == org.id, EventDelivery.status == "PENDING")
        .order_by(Event.created_at.desc())
        .limit(limit)
    )
    found = (await session.execute(undelivered)).scalars().all()
    return [answer(each.id, each.type, each.created_at) | {"payload": each.payload} for each in found]


@app.post("/ack")
async def acknowledge(ack: Ack, org: Org, session: Session) -> dict[str, int]:
    """Mark events as delivered. Repeating it changes nothing."""
    ours = select(Event.id).where(Event.id.in_(ack.event_ids), Event.org_id == org.id)
    done = await session.execute(
        update(EventDelivery)
        .where(EventDelivery.event_id.in_(ours), EventDelivery.status == "PENDING")
        .values(status="DELIVERED")
        .execution_options(synchronize_session=False)
    )
    await session.commit()
    return {"acknowledged": done.rowcount}  # type: ignore[attr-defined]


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that the app answers."""
    return {"status": "ok"}
