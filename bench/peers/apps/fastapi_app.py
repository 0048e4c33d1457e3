"""FastAPI, SQLAlchemy's asyncio extension and slowapi. It runs in the environment of bench/peers/venv.

`BENCH_KEY_CACHE_SECONDS` is the time for which a worker keeps a key's account. With 0, each request reads the key's
row.
"""

import hashlib
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from sqlalchemy import DateTime, LargeBinary, Text, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CACHE_SECONDS = float(os.environ["BENCH_KEY_CACHE_SECONDS"])
LIMITS = "1000000/minute;1000000/hour;1000000/day"


class Base(DeclarativeBase):
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True), bytes: LargeBinary}  # noqa: RUF012


class Agent(Base):
    __tablename__ = "agents"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    category: Mapped[str]
    status: Mapped[str]
    system_prompt: Mapped[str | None]
    greeting_message: Mapped[str | None]
    greeting_mode: Mapped[str]
    llm_model: Mapped[str]
    voice_provider: Mapped[str]
    voice_id: Mapped[str | None]
    auth_mode: Mapped[str]
    ringing_enabled: Mapped[bool]
    background_audio_enabled: Mapped[bool]
    background_audio_volume: Mapped[float]
    noise_suppression_enabled: Mapped[bool]
    widget_enabled: Mapped[bool]
    widget_auth_mode: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    created_by: Mapped[str]


class Key(Base):
    __tablename__ = "peer_keys"
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    account: Mapped[str]


class AgentOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: UUID
    name: str
    description: str | None
    category: str
    status: str
    system_prompt: str | None
    greeting_message: str | None
    greeting_mode: str
    llm_model: str
    voice_provider: str
    voice_id: str | None
    auth_mode: str
    ringing_enabled: bool
    background_audio_enabled: bool
    background_audio_volume: float
    noise_suppression_enabled: bool
    widget_enabled: bool
    widget_auth_mode: str
    created_at: datetime
    updated_at: datetime
    created_by: str


class Verified(BaseModel):
    account: str


engine = create_async_engine(os.environ["BENCH_DATABASE"])
new_session = async_sessionmaker(engine, expire_on_commit=False)
known: dict[bytes, tuple[str, float]] = {}


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


async def _account(digest: bytes, opened: AsyncSession) -> str:
    account = await opened.scalar(select(Key.account).where(Key.digest == digest))
    if account is None:
        raise HTTPException(401)
    return account


def _digest(request: Request) -> bytes:
    return hashlib.sha256(request.headers.get("authorization", "").removeprefix("Bearer ").encode()).digest()


async def uncached(request: Request, opened: Session) -> str:
    request.state.account = await _account(_digest(request), opened)
    return request.state.account


async def cached(request: Request) -> str:
    digest, now = _digest(request), time.monotonic()
    account, expires = known.get(digest, ("", 0.0))
    if expires <= now:
        async with new_session() as opened:
            account = await _account(digest, opened)
        known[digest] = account, now + CACHE_SECONDS
    request.state.account = account
    return account


Account = Annotated[str, Depends(cached if CACHE_SECONDS else uncached)]

limiter = Limiter(
    key_func=lambda request: request.state.account, headers_enabled=True, storage_uri=os.environ["BENCH_LIMITS"]
)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.get("/v1/agents")
@limiter.limit(LIMITS)
async def list_agents(request: Request, response: Response, account: Account, opened: Session) -> list[AgentOut]:
    query = select(Agent).order_by(Agent.created_at.desc(), Agent.id.desc()).limit(50)
    return (await opened.scalars(query)).all()


@app.get("/v1/verify")
@limiter.limit(LIMITS)
async def verify(request: Request, response: Response, account: Account) -> Verified:
    return Verified(account=account)
