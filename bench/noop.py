"""What the server alone can do, with an app that only answers: uvicorn as it comes, or as we run it.

python -m bench.noop PORT plain|ours
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
import uvloop

from triggers.http import server

_START = {
    "type": "http.response.start",
    "status": 201,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
_BODY = {"type": "http.response.body", "body": b"{}"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer without so much as reading the body."""
    await send(_START)
    await send(_BODY)


async def main(port: int, kind: str) -> None:
    serving = server.make_server(app, shutdown_timeout=1)
    if kind == "plain":
        serving.config = uvicorn.Config(
            app,
            http="httptools",
            loop="uvloop",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
            backlog=2048,
        )
    with server.bind("127.0.0.1", port) as bound:
        await serving.serve(sockets=[bound])


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
