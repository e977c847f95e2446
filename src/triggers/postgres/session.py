"""The settings of a database session, which every connection sets for itself before it is used.

A server, a database or a role may have any defaults, so our statements must not depend on defaults. One
statement sets all settings. They are not parameters of the connection's start, because PgBouncer refuses such
parameters or drops them silently.

Some settings are not set here, because the operator chooses them: `search_path` (the schema of our tables),
`default_transaction_read_only`, `role`, and those that only cost time or memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PINNED: Final = {
    # The format of texts in statements, and of values.
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "bytea_output": "hex",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    # A statement that waited for a lock must see the rows as they are then.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    # Some statements are expected to fail, and a connection may be idle for long.
    "exit_on_error": "off",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "jit": "off",
}
"""Besides these, the time limits of statements are set, and `synchronous_commit`."""

_SINCE_MAJOR: Final = {"transaction_timeout": 17}
"""The first version of PostgreSQL that has the setting, if not all supported versions have it."""

# A server or a role may have a weaker default, but a 2xx promises that the data is durable.
_DURABLE: Final = (
    "set_config('synchronous_commit', case current_setting('synchronous_commit')"
    " when 'remote_apply' then 'remote_apply' else 'on' end, false)"
)


def session_settings(seconds: float) -> dict[str, str]:
    """The settings of a session whose statements may take `seconds`."""
    return PINNED | {
        "statement_timeout": str(int(seconds * 1000)),
        "lock_timeout": str(int(seconds * 500)),
        "idle_in_transaction_session_timeout": str(int(seconds * 1000)),
    }


def setting_statement(settings: Mapping[str, str], major: int) -> str:
    """The statement that sets these settings in a session of PostgreSQL `major`. The values are ours: they
    contain no quotes and no backslashes, so they are read alike whatever the session's settings were."""
    calls = [
        f"set_config('{name}', '{value}', false)"
        for name, value in settings.items()
        if major >= _SINCE_MAJOR.get(name, 0)
    ]
    return f"select {', '.join([*calls, _DURABLE])}"
