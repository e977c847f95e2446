"""The first run: the organisation and the API key that a new database begins with."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NamedTuple

from triggers.domain import TENANT_SCOPES, OrgId, Plan
from triggers.errors import NameTaken, OperatorError
from triggers.keys import organisations
from triggers.keys import store as api_keys
from triggers.node.settings import FIRST_ORGANISATION, KEY_FILE
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.sessions import store as sessions
from triggers.sessions.store import NewLink

LINK_SECONDS = 600
"""Time for which the link of the first run to the console is valid."""


class FirstRun(NamedTuple):
    """The place of the first API key. If `key` and `key_file` are None, no key was made."""

    key: str | None = None
    """The key itself, to be shown on a terminal. It is stored nowhere."""
    key_file: Path | None = None
    """The file that holds the key."""
    link_token: str | None = None
    """Token of a link that signs in to the console with the key, if the key is shown on a terminal."""


async def first_run(
    database: Database, clock: DatabaseClock, *, terminal: bool, data_dir: Path | None
) -> FirstRun | None:
    """Create an organisation without limits and its API key, if there is no organisation yet.

    A key is shown only on a terminal, because other output becomes a log, which is stored and which others
    read. Without a terminal the key is written to a file in `data_dir`. Without both, no key is made.

    One transaction creates both. Otherwise a node that is killed in between would leave an organisation
    without a key. The file is written before the commit for the same reason. If several nodes start at once,
    one of them creates both.

    Raises:
        OperatorError: the file cannot be written; then nothing was created.
    """
    if await organisations.exist(database):
        return None
    try:
        async with database.connection() as connection, connection.transaction():
            org = await organisations.insert(connection, clock, FIRST_ORGANISATION, Plan.ENTERPRISE, None)
            if not terminal and data_dir is None:
                return FirstRun()
            new = api_keys.NewKey(TENANT_SCOPES, name="first key")
            made = await api_keys.create(connection, clock, OrgId(org.id), new)
            if terminal or data_dir is None:
                link = NewLink(made.id, LINK_SECONDS)
                token = (await sessions.insert_link(connection, clock, OrgId(org.id), link)).token
                return FirstRun(key=made.key, link_token=token)
            path = data_dir / KEY_FILE
            await asyncio.to_thread(_write_private, path, f"{made.key}\n")
            return FirstRun(key_file=path)
    except NameTaken:  # by a node that started at the same time
        return None


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read. It replaces one of a run that did not reach its commit."""
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OperatorError(f"The first API key cannot be written to {path}: {error.strerror}.") from None
