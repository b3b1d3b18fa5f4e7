"""nginx as the yardstick: one worker, keep-alive to the backend, buffering off."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

_CONFIG: Final = """
daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; server_tokens off;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 1024; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048; keepalive_requests 1000000; client_max_body_size 0;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""


@contextmanager
def nginx(port: int, backend: int) -> Iterator[int]:
    """Run nginx in front of the backend until the context ends; yields its process id."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if program is None:
        raise SystemExit("cannot compare without nginx: apt-get install nginx-light")
    with tempfile.TemporaryDirectory(prefix="hal0-bench-nginx-") as home:
        config = Path(home) / "nginx.conf"
        config.write_text(_CONFIG.format(home=home, port=port, backend=backend))
        process = subprocess.Popen([program, "-p", home, "-c", str(config), "-e", f"{home}/error.log"])
        try:
            _answers(port, process)
            yield process.pid
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"cannot use nginx: it does not answer on port {port} (exit {process.poll()})")
