#!/bin/sh
# Writes the lock files, hal0's from pyproject.toml and each image's from its requirements*.in: exact versions with the
# hashes of every platform's files, and no address of an index, so that whoever installs uses the index that pip is
# set up with. What an image's left-out.in names is not in it, whoever asks for it; left-out-TARGET.in is for the lock of
# that target alone.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
tools=$root/.cache/lock

[ -x "$tools/bin/uv" ] || {
  python3 -m venv "$tools"
  "$tools/bin/pip" --disable-pip-version-check --quiet install 'uv>=0.8'
}

lock() {
  out=$1
  shift
  (cd "$root" && "$tools/bin/uv" pip compile --quiet --universal --upgrade --generate-hashes --no-config \
    --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@" --output-file "$out.new")
  if grep -nE '://|^-' "$out.new"; then
    echo "cannot lock: the lines above name an address" >&2
    exit 1
  fi
  mv "$out.new" "$out"
}

lock "$here/requirements.lock" --python-version 3.11 pyproject.toml
lock "$here/requirements-dev.lock" --python-version 3.11 --group test --group check \
  --constraint "$here/requirements.lock" pyproject.toml

none=$(mktemp)
trap 'rm -f "$none"' EXIT
for wanted in "$root"/images/*/requirements*.in; do
  folder=$(dirname "$wanted")
  target=$(basename "$wanted" .in)
  target=${target#requirements}
  for left_out in "$folder/left-out.in" ${target:+"$folder/left-out$target.in"}; do
    [ ! -e "$left_out" ] || sed -n 's/^\([A-Za-z0-9._-]\{1,\}\).*/\1; python_version < "3"/p' "$left_out" >> "$none"
  done
  # 3.13: the Python of the Debian release that images with wheels are made of.
  lock "${wanted%.in}.lock" --python-version 3.13 --only-binary :all: --override "$none" "$wanted"
  : > "$none"
done
