#!/bin/sh
# Makes .venv from a lock file and links this checkout into it; does nothing when it is already so.
#
#   venv.sh requirements.lock|requirements-dev.lock
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
venv=$root/.venv
stamp=$venv/.hal0-stamp # which locks it satisfies, and for which place: a moved environment does not work

cannot() {
  printf 'cannot make the virtual environment: %s\n' "$1" >&2
  exit 1
}

key() { printf '%s %s\n' "$(sha256sum "$here/$1" | cut -d ' ' -f 1)" "$root"; }

# The first interpreter that is new enough. The system's own comes first: what runs for years should rest on what the
# system keeps up to date, and it is built to be quick, a seventh quicker than one that was merely compiled.
python() {
  for name in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  cannot "Python 3.11 or newer is needed, this is $(python3 --version 2>&1)"
}

if [ -x "$venv/bin/python" ] && grep -qxF -e "$(key "$1")" "$stamp" 2>/dev/null && "$venv/bin/python" -c ''; then
  exit 0
fi

interpreter=$(python)
if ! "$venv/bin/pip" --version >/dev/null 2>&1; then
  echo "making .venv with $("$interpreter" --version)"
  "$interpreter" -m venv --clear "$venv" || cannot "$interpreter -m venv failed"
fi

rm -f "$stamp"
echo "installing from etc/$1"
"$venv/bin/pip" --disable-pip-version-check --quiet install --no-compile --require-hashes --requirement "$here/$1" ||
  cannot "pip could not install etc/$1
Its reasons are above. It needs a package index (the network, or PIP_INDEX_URL); then run this again."

# The checkout itself: a path and the two commands. Quicker than an editable install, and needs no build tool.
"$venv/bin/python" - "$root" <<'LINK'
import sys, sysconfig, tomllib
from pathlib import Path

root = Path(sys.argv[1])
Path(sysconfig.get_path("purelib"), "hal0-checkout.pth").write_text(f"{root}\n")
scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
for name, entry in scripts.items():
    module, function = entry.split(":")
    command = Path(sysconfig.get_path("scripts"), name)
    # A #! line ends at a space: then the shell starts Python, to which the shell's line is a string, as pip does it.
    start = f"#!{sys.executable}"
    if " " in start:
        start = f"""#!/bin/sh\n'''exec' "{sys.executable}" "$0" "$@"\n' '''"""
    command.write_text(f"{start}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    command.chmod(0o755)
LINK

# The larger lock contains the smaller one, with the same versions.
{
  key "$1"
  [ "$1" = requirements.lock ] || key requirements.lock
} > "$stamp"
