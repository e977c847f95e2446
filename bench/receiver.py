"""The receiver of deliveries: nginx, which takes them faster than anyone here can send."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.processes import answers, cpu_seconds, end, free_port, place, program, wait_for

_CONFIGURATION = """
worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; server_tokens off;
  client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
  uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 'ok'; }}
    location = /slow {{ limit_rate 100; return 200 '{slow}'; }}
    location = /count {{ stub_status; }}
  }}
}}
"""


class Receiver:
    """A running nginx. `/slow` takes one to two seconds for its answer."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process = psutil.Process(process.pid)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._asked = 0

    def received(self) -> int:
        """Requests so far, without those of this question."""
        self._connection.request("GET", "/count")
        text = self._connection.getresponse().read().decode()
        self._asked += 1
        return int(text.split("requests\n")[1].split()[2]) - self._asked

    def cpu(self) -> float:
        """CPU seconds so far."""
        return sum(map(cpu_seconds, self._process.children()))


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A local nginx with one worker."""
    port = free_port()
    with place() as home:
        configuration = Path(home, "nginx.conf")
        configuration.write_text(_CONFIGURATION.format(home=home, port=port, slow="." * 150))
        process = subprocess.Popen(
            [program("nginx", "nginx-light"), "-c", str(configuration), "-p", str(home)],
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: answers(port), 10, "nginx")
            yield Receiver(port, process)
        finally:
            end(process)
