"""`make bench`: one run, one backend, three ways to it; a table, build/bench.json, and exit 1 when a bar is missed."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.bench.cold_loads import cold_load_rows
from tests.bench.daemon import daemon
from tests.bench.image import backend_image
from tests.bench.nginx import nginx
from tests.bench.noticing import crash_rows
from tests.bench.proxying import Sides, measure, proxy_rows
from tests.bench.rows import table
from tests.bench.supervising import supervising_rows
from tests.ports import lease_block

REPORT: Final = Path("build/bench.json")
READY_AFTER_S: Final = 0.7  # long enough for the probes to have slowed down


def main() -> int:
    with (
        lease_block() as ports,
        tempfile.TemporaryDirectory(prefix="hal0-bench-") as home,
        backend_image() as image,
        daemon(Path(home), ports[0], image, ready_after_s=READY_AFTER_S) as hal0,
    ):
        backend = hal0.slot("primary")["port"]
        with nginx(ports[1], backend) as nginx_pid:
            rows = measure(lambda: proxy_rows(Sides(backend, ports[1], ports[0], nginx_pid), hal0))
        rows += supervising_rows(hal0)
        rows += crash_rows(hal0, ports[2], image)
    rows += cold_load_rows()
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")
    sys.stdout.write(table(rows) + "\n")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
