"""nginx, which some tests put in front of a node or use as a receiver."""

from __future__ import annotations

import shutil
from pathlib import Path

_CONFIGURATION = """
worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
  uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
  {http}
}}
"""


def command(home: Path, http: str) -> list[str]:
    """The command that runs nginx with these directives of `http`. Its files are in `home`."""
    home.chmod(0o755)  # if root starts nginx, its workers run as another user
    configuration = home / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(home=home, http=http))
    return [program("nginx"), "-c", str(configuration), "-p", str(home)]


def program(name: str) -> str:
    """The path of a program that Debian may have put outside PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    assert found is not None, f"{name} is not installed; .ci/run installs it"
    return found
