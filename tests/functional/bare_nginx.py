"""A real nginx with nothing but `proxy_pass` in front of a port: no header tells that it stands there."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.vloop import until

NGINX_CONF: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error; {user}
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }}
}}
"""


def write_conf(folder: Path, port: int, upstream: int) -> Path:
    folder.mkdir()
    user = "user www-data;" if os.geteuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, port=port, upstream=upstream, user=user))
    return conf


@asynccontextmanager
async def bare_nginx(folder: Path, port: int, upstream: int) -> AsyncIterator[None]:
    """Debian's nginx with nothing but `proxy_pass`: no header tells that it stands there."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "install nginx: apt-get install -y --no-install-recommends nginx-light"
    conf = await asyncio.to_thread(write_conf, folder, port, upstream)
    nginx = await asyncio.create_subprocess_exec(program, "-p", str(folder), "-c", str(conf))
    try:
        listening = f"0100007F:{port:04X} 00000000:0000 0A"
        await until(lambda: nginx.returncode is not None or listening in Path("/proc/net/tcp").read_text(), within_s=10)
        assert nginx.returncode is None
        yield
    finally:
        if nginx.returncode is None:
            nginx.terminate()
        await nginx.wait()
