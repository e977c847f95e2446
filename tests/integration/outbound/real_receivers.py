"""Servers that real endpoints run on: nginx, Node's http, and the server of Python's standard library.

Each answers 200 and keeps the connection, except for two paths: `/broken` answers 200 with a header over two
lines, and `/closed` closes the connection without an answer.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nginx
from harness import free_port

_NGINX = r"""
server {{
  listen 127.0.0.1:{port};
  location / {{ return 200 'ok'; }}
  location = /broken {{
    add_header X-Policy "one;
      two";
    return 200 'ok';
  }}
  location = /closed {{ return 444; }}
}}
"""

_NODE = r"""
require("http").createServer((request, response) => {
  request.resume().on("end", () => {
    if (request.url === "/closed") request.socket.destroy();
    else if (request.url === "/broken")
      request.socket.write("HTTP/1.1 200 OK\r\nX-Policy: one;\n two\r\nContent-Length: 2\r\n\r\nok");
    else response.end("ok");
  });
}).listen(Number(process.argv[1]), "127.0.0.1");
"""

_PYTHON = r"""
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/closed":
            self.close_connection = True
            return
        self.send_response(200)
        if self.path == "/broken":
            self.send_header("X-Policy", "one;\n two")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

SERVERS = ("nginx", "node", "python")


@contextlib.contextmanager
def running(server: str) -> Iterator[str]:
    """Run one of SERVERS, and give its URL without a path."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="triggers-test-") as name:
        process = subprocess.Popen(_command(server, port, Path(name)), stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _command(server: str, port: int, home: Path) -> list[str]:
    match server:
        case "nginx":
            return nginx.command(home, _NGINX.format(port=port))
        case "node":
            return [nginx.program("node"), "-e", _NODE, str(port)]
        case _:
            return [sys.executable, "-c", _PYTHON, str(port)]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("The server does not listen.")
