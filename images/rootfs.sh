#!/usr/bin/env bash
# Writes the root file system of a toolbox image as a tar: Debian packages, signature-checked by apt, unpacked but
# not installed; Python wheels with the hashes of the recipe's lock; and hal0's own files. Needs apt and dpkg-deb, no
# registry, no chroot, no Python and no root rights.
#
#   rootfs.sh OUT.tar RECIPE TARGET     RECIPE is a folder beside this script, or the path of another one
#
# A recipe has a file `packages`, one WORD NAME a line, anything behind them is a comment:
#
#   suite NAME       the Debian release that the packages are of
#   component NAME   a part of it beside `main`, such as non-free
#   target NAME      an image that can be built
#   all PACKAGE      in every image
#   TARGET PACKAGE   in the image of that target only
#   omit PACKAGE     pulled in by dependencies, but only needed to install packages, never to run
#   tool PACKAGE     used while building, without what it depends on; not in the image
#   copy PATH        a file or folder beside this script, put into /opt/hal0 under its last name
#   host PATH        a folder of this machine, at the same place in the image: what its maker gives to people only
#
# With `requirements-TARGET.lock`, else `requirements.lock`, the wheels in it are installed for the image's own Python
# by pip (tool python3-pip-whl), from whichever index pip is set up with. What the lock does not name is not taken.
# With `wheels-TARGET`, what is named there and what that asks for comes besides, from HAL0_TORCH_INDEX alone: PyTorch
# for a GPU is in no archive of everybody's. Nothing but its owner's word vouches for that index.
#
#   HAL0_DEBIAN_MIRROR   where to fetch packages from; default: the Debian mirror of this host's own apt sources
#   HAL0_TORCH_INDEX     the address or folder of a package index with PyTorch's wheels for one's GPU
#   SOURCE_DATE_EPOCH    the time stamp of every file; default 0, so that equal packages make an equal tar
#
# While it works it says so at least every half minute, as long as what it has made grows.
#
# Exit status: 0 done; 3 this host cannot build this way (say why, try the Containerfile); anything else failed.
# shellcheck disable=SC2016  # apt and dpkg-deb expand names in their own formats
set -euo pipefail
export LC_ALL=C
umask 022

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%s\n' "$*"; }
cannot() { printf 'cannot build the image: %s\n' "$1" >&2; exit "${2:-1}"; }

[ $# -eq 3 ] || cannot "usage: rootfs.sh OUT.tar RECIPE TARGET" 2
out=$(realpath -m "$1") recipe=$2 target=$3
[[ $recipe == /* ]] || recipe=$here/$recipe
list=$recipe/packages
[ -r "$list" ] || cannot "no package list at $list"
lock=$recipe/requirements-$target.lock
[ -e "$lock" ] || lock=$recipe/requirements.lock
unlocked=$recipe/wheels-$target

chosen() { awk -v a="$1" -v b="${2:-}" '!/^#/ && NF && ($1 == a || $1 == b) { print $2 }' "$list"; }
chosen target | grep -qxF -e "$target" || cannot "$list knows no target $target"
suite=$(chosen suite) components=$(chosen component)
[ -n "$suite" ] || cannot "$list names no suite"
[ ! -e "$unlocked" ] || [ -n "${HAL0_TORCH_INDEX:-}" ] ||
  cannot "PyTorch for a GPU is in no archive: set HAL0_TORCH_INDEX, in hal0's environment, to an index of its wheels"
for path in $(chosen host); do
  [ -d "$path" ] || cannot "$path is not on this machine: install the program there first"
done

for tool in apt-get dpkg dpkg-deb tar awk; do
  command -v "$tool" >/dev/null || cannot "$tool is not here; this way needs Debian or a relative of it" 3
done
[ -r "$KEYRING" ] || cannot "the keys that sign Debian are missing; apt-get install debian-archive-keyring" 3

# Beside the result: gigabytes fit where that is to be, and /tmp is memory on many machines.
work=$(mktemp -d "$(dirname "$out")/rootfs.XXXXXX")
pulse=
# A full disk has each tool fail in words of its own, the last of which seldom say why.
finish() {
  local status=$? room
  kill $pulse 2>/dev/null || :
  room=$(df -m --output=avail "$work" 2>/dev/null | tail -n 1) || :
  rm -rf "$work" "$out.part"
  [ "$status" -eq 0 ] || [ "${room:-8}" -ge 8 ] ||
    say "cannot build the image: the disk of $(dirname "$out") is full; make room there and build again" >&2
}
trap finish EXIT
trap 'exit 130' INT TERM
chmod 755 "$work"
mkdir -p "$work"/{etc/preferences.d,lists/partial,cache/archives/partial,deb,tool,tools,image,tmp}
export TMPDIR=$work/tmp

# Fetching and packing have no words of their own: what has become of them meanwhile tells that they go on. It waits
# for what nobody writes, without a child that would be left behind.
grow() {
  local before= now never
  exec {never}<> <(:)
  until read -r -t 20 -u "$never" || ! kill -0 $$ 2>/dev/null; do
    # What is not there yet, or no more, is no failure of du's.
    now=$({ du -sm "$work" "$out.part" 2>/dev/null || :; } | awk '{ sum += $1 } END { print sum }' 2>/dev/null)
    [ "$now" = "$before" ] || say "$now MB so far"
    before=$now
  done
}
grow &
pulse=$!
: > "$work/status" # nothing counts as installed, so apt resolves the whole closure

# An apt of its own: the host's proxy and certificate settings apply, its packages and sources are not touched.
own=(-qq -o Dir::Etc="$work/etc" -o Dir::Etc::sourcelist="$work/etc/sources.list"
  -o Dir::Etc::sourceparts=/nonexistent -o Dir::Etc::preferencesparts="$work/etc/preferences.d"
  -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache"
  -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any -o APT::Sandbox::User=root
  -o APT::Install-Recommends=false -o APT::Install-Suggests=false -o Debug::NoLocking=1)

# Mirrors to try, best first: what apt knows to be Debian's main archive, then what looks like it (on a fresh host
# apt has no index yet and cannot tell). A wrong guess fails the signature check.
mirrors() {
  if [ -n "${HAL0_DEBIAN_MIRROR:-}" ]; then
    say "$HAL0_DEBIAN_MIRROR"
    return
  fi
  {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'
    apt-get indextargets -o APT::Get::IndexTargets::ReleaseInfo=false --format '$(REPO_URI)' 'Created-By: Packages' |
      grep -E '/debian/?$|^mirror'
  } 2>/dev/null | awk '!seen[$0]++' || true
}

say "reading the package index of Debian $suite"
found=
while read -r mirror; do
  say "deb [signed-by=$KEYRING] $mirror $suite main ${components//$'\n'/ }" > "$work/etc/sources.list"
  if apt-get "${own[@]}" update 2> "$work/error"; then
    found=yes
    break
  fi
done < <(mirrors)
if [ -z "$found" ]; then
  [ ! -s "$work/error" ] || cannot "no package index of Debian $suite: $(tail -n 1 "$work/error")" 3
  cannot "this host's apt sources name no Debian mirror; set HAL0_DEBIAN_MIRROR to the address of one" 3
fi

# What the list omits counts as installed, so that neither it nor anything that only it needs is fetched. It gets
# the version of the index, because some packages ask for exactly their sibling's; a virtual package, and one that another release had, has none.
for name in $(chosen omit); do
  version=$(apt-cache "${own[@]}" show --no-all-versions "$name" 2>/dev/null | sed -n 's/^Version: //p') || :
  printf 'Package: %s\nStatus: install ok installed\nVersion: %s\nArchitecture: %s\n' \
    "$name" "${version:-0}" "$(dpkg --print-architecture)"
  printf 'Multi-Arch: foreign\nMaintainer: omitted\nDescription: omitted\n\n'
done > "$work/omitted"
mv "$work/omitted" "$work/status"

# shellcheck disable=SC2046  # one word per package is meant
apt-get "${own[@]}" install --print-uris $(chosen all "$target") > "$work/uris" || cannot "apt finds no way to install $target"
# Filtered once more: apt offers to replace what only claims to be installed.
mapfile -t names < <(sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p" "$work/uris" | sort | comm -23 - <(chosen omit | sort))

say "fetching ${#names[@]} packages"
(cd "$work/deb" && apt-get "${own[@]}" download "${names[@]}") || cannot "the packages could not be fetched"
mapfile -t names < <(chosen tool)
[ ${#names[@]} -eq 0 ] || (cd "$work/tool" && apt-get "${own[@]}" download "${names[@]}") ||
  cannot "the tools could not be fetched"

# base-files first: it brings the links /bin -> usr/bin and so on that the others unpack through.
say "unpacking"
for deb in "$work"/deb/base-files_*.deb "$work"/deb/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/image" --no-same-owner --same-permissions --keep-directory-symlink \
    --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/doc/*/changelog*' \
    --exclude='./usr/share/doc/*/NEWS*' --exclude='./usr/share/llama.cpp/llama.cpp-tools/*' \
    --exclude='./usr/libexec/*/ggml/*'
done

# What the packages' own scripts would have set up.
cd "$work/image"
[ -e usr/bin/sh ] || ln -s busybox usr/bin/sh
mkdir -p proc sys dev run tmp models usr/share/hal0
chmod 1777 tmp
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/nonexistent:/bin/false' > etc/passwd
printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' > etc/group
for deb in "$work"/deb/*.deb; do
  dpkg-deb --show --showformat='${Package} ${Version}\n' "$deb"
done | sort > usr/share/hal0/packages


# The image's Python, run from where it was unpacked: it knows best which wheels it can use, and needs no other.
python() {
  PYTHONHOME=$work/image/usr PYTHONPATH=${pip[*]:-} PYTHONHASHSEED=0 PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1 \
    "${linker[0]}" --library-path "$work/image/usr/lib/$(basename "$(dirname "${linker[0]}")")" usr/bin/python3 "$@"
}

for path in $(chosen copy); do
  mkdir -p opt/hal0
  cp -R "$here/$path" opt/hal0/
  find opt/hal0 -name __pycache__ -prune -exec rm -rf {} +
done
for path in $(chosen host); do
  mkdir -p ".$(dirname "$path")"
  cp -R "$path" ".$path"
done

if [ -e "$lock" ]; then
  for deb in "$work"/tool/*.deb; do
    dpkg-deb --extract "$deb" "$work/tools"
  done
  pip=("$work"/tools/usr/share/python-wheels/pip-*.whl) linker=(usr/lib/*-linux-gnu/ld-linux-*.so.*)
  # Debian's pip trusts the certificates of the system that it is installed on; this one may have none.
  if [ ! -e /etc/ssl/certs/ca-certificates.crt ] && [ -z "${PIP_CERT:-}" ]; then
    cat "$work"/tools/usr/share/ca-certificates/mozilla/*.crt > "$work/certificates"
    export PIP_CERT=$work/certificates
  fi
  say "fetching $(grep -c '==' "$lock") wheels"
  site=usr/lib/python3/dist-packages
  python -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore --no-warn-conflicts \
    --no-deps --require-hashes --only-binary :all: --no-compile --target "$site" --requirement "$lock" ||
    cannot "pip could not fetch the wheels; it needs a package index (the network, or PIP_INDEX_URL)"
  rm -rf "$site/bin"
  # NumPy's testing helpers, which SciPy imports, need a module of its tests.
  find "$site" -type d -name tests ! -path '*/numpy/_core/tests' -prune -exec rm -rf {} +
  sed -n 's/^\([A-Za-z0-9._-]*\)==\([^ ;\\]*\).*/\1 \2/p' "$lock" | sort > usr/share/hal0/wheels
  trees=(usr/lib/python3.*/ "$site" opt/hal0)
  if [ -e "$unlocked" ]; then
    say "fetching PyTorch"
    # Beside Debian's packages, which pip sees and does not bring again.
    (
      unset PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_CONSTRAINT
      PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL=$HAL0_TORCH_INDEX python -m pip install --quiet \
        --disable-pip-version-check --no-input --root-user-action=ignore --no-warn-conflicts --break-system-packages \
        --no-cache-dir --only-binary :all: --no-compile --requirement "$unlocked"
    ) || cannot "pip could not fetch PyTorch: HAL0_TORCH_INDEX has to lead to wheels for Python 3.13 and this processor"
    rm -rf usr/local/bin
    python -m pip freeze --path usr/local/lib/python3.*/dist-packages | sed 's/==/ /' | sort >> usr/share/hal0/wheels
    trees+=(usr/local/lib)
  fi
  # Inside nobody may write, so without bytecode each start would compile all of it.
  say "compiling"
  # But for dictionaries that are written as modules and read as files.
  python -m compileall -q --invalidation-mode unchecked-hash -x '/sysdic/entries_' -s "$work/image" -p / \
    "${trees[@]}" > "$work/error" || cannot "a module does not compile: $(head -n 1 "$work/error")"
fi

say "packing $(du -sm . | cut -f1) MB"
tar --create --file "$out.part" --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner .
mv "$out.part" "$out"
