"""The only place that connects a socket to an endpoint."""

import asyncio
import errno
import socket
from typing import Final

from triggers.outbound.result import NoConnection, Reason

_NO_SOCKETS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


async def dial(address: str, port: int, limit: float) -> socket.socket:
    """Connect a socket to `address`, a literal that was judged (or is the operator's proxy).

    `limit` is a time of the event loop.

    Raises:
        NoConnection: connect, connect_timeout, or busy where this process may open no more sockets.
    """
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise NoConnection(Reason.BUSY if error.errno in _NO_SOCKETS else Reason.CONNECT) from None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout_at(limit):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError:
        sock.close()
        raise NoConnection(Reason.CONNECT_TIMEOUT) from None
    except OSError:
        sock.close()
        raise NoConnection(Reason.CONNECT) from None
    except BaseException:
        sock.close()
        raise
    return sock
