#!/bin/sh
# Brings a bare machine to where hal0 runs from this checkout: system packages, then the virtual environment.
#
#   bootstrap.sh run     what `make run` needs
#   bootstrap.sh test    that, and what the tests and checks need
set -eu

here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
  run) lock=requirements.lock ;;
  test) lock=requirements-dev.lock ;;
  *) echo "usage: bootstrap.sh run|test" >&2; exit 2 ;;
esac

# One at a time: a second `make run` at the same moment waits, then finds everything there.
if command -v flock >/dev/null && [ -z "${HAL0_BOOTSTRAP:-}" ]; then
  mkdir -p "$here/../.cache"
  HAL0_BOOTSTRAP=1 exec flock "$here/../.cache/bootstrap.lock" "$0" "$1"
fi

"$here/system.sh" "$1"
"$here/venv.sh" "$lock"
