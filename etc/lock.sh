#!/bin/sh
# Writes the two lock files from pyproject.toml: exact versions with the hashes of every platform's files, and no
# address of an index, so that whoever installs uses the index that pip is set up with.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
tools=$root/.cache/lock

[ -x "$tools/bin/uv" ] || {
  python3 -m venv "$tools"
  "$tools/bin/pip" --disable-pip-version-check --quiet install 'uv>=0.8'
}

compile() {
  out=$here/$1
  shift
  (cd "$root" && "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
    --no-config --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@" pyproject.toml \
    --output-file "$out.new")
  if grep -nE '://|^-' "$out.new"; then
    echo "cannot lock: the lines above name an address" >&2
    exit 1
  fi
  mv "$out.new" "$out"
}

compile requirements.lock
compile requirements-dev.lock --group test --group check --constraint "$here/requirements.lock"
