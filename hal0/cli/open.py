"""`hal0ctl open`: a link that signs a browser in, once."""

import time

from hal0.cli import units
from hal0.cli.options import command
from hal0.cli.session import Session
from hal0.cli.welcome import local_url


@command("hal0ctl open", name="open")
def open_(session: Session) -> None:
    """Print a link that signs a browser in as the operator; it works once."""
    client = session.client()
    link = client.post("/api/session/link")
    base = local_url(client.get("/api/status")["url"]) if client.target.socket_path else client.target.url
    url = base + link["path"]
    session.value({"url": url, "expires_at": link["expires_at"]}, url)
    if not session.machine:
        left = units.duration(link["expires_at"] - time.time())
        session.note(f"it works once, within {left}; from another machine put this one's name in place of the host")
