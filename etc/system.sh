#!/bin/sh
# Installs the system packages that are missing: one apt transaction on Debian and its relatives, none when all is
# there. On other systems it prints the line that installs them and exits 1.
#
#   system.sh run|test
set -eu
PATH=$PATH:/usr/sbin:/sbin # where runc and iptables are, also for people without root rights

# Debian's package, and the command or file (any one of them) that tells it is there.
wanted() {
  cat <<'TABLE'
podman                  podman
runc                    runc crun
conmon                  conmon
netavark                netavark /usr/lib/podman/netavark /usr/libexec/podman/netavark
aardvark-dns            aardvark-dns /usr/lib/podman/aardvark-dns /usr/libexec/podman/aardvark-dns
catatonit               catatonit /usr/libexec/podman/catatonit /usr/lib/podman/catatonit
iptables                iptables
curl                    curl
TABLE
  if [ "$(id -u)" != 0 ]; then # podman without root rights
    cat <<'TABLE'
uidmap                  newuidmap
slirp4netns             slirp4netns pasta
TABLE
  fi
  if command -v apt-get >/dev/null; then # elsewhere images are pulled or built from the Containerfile
    echo "debian-archive-keyring  /usr/share/keyrings/debian-archive-keyring.gpg"
  fi
  if [ "$1" = test ]; then
    cat <<'TABLE'
nginx-light             nginx
nodejs                  node
npm                     npm
TABLE
  fi
}

there() {
  for probe in "$@"; do
    case $probe in
      /*) [ ! -e "$probe" ] || return 0 ;;
      *) ! command -v "$probe" >/dev/null || return 0 ;;
    esac
  done
  return 1
}

missing() {
  wanted "$1" | while read -r package probes; do
    # shellcheck disable=SC2086  # one probe per word is meant
    there $probes || echo "$package"
  done
  # Debian splits the module that makes virtual environments from the interpreter.
  if ! command -v python3 >/dev/null; then
    echo python3
    echo python3-venv
  elif ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo python3-venv
  fi
}

elsewhere() { # the same things under other systems' names
  extra=" curl"
  [ "$(id -u)" = 0 ] || extra="$extra slirp4netns"
  [ "$1" != test ] || extra="$extra nginx nodejs npm"
  if command -v dnf >/dev/null; then
    echo "dnf install -y python3 podman crun netavark aardvark-dns conmon catatonit iptables-nft$extra"
  elif command -v pacman >/dev/null; then
    echo "pacman -S --needed python podman crun netavark aardvark-dns conmon catatonit iptables$extra"
  elif command -v zypper >/dev/null; then
    echo "zypper install -y python311 podman runc netavark aardvark-dns conmon catatonit iptables$extra"
  elif command -v apk >/dev/null; then
    echo "apk add python3 shadow-uidmap podman crun netavark aardvark-dns conmon catatonit iptables$extra"
  fi
}

cannot() {
  printf 'cannot go on: %s\n' "$1" >&2
  exit 1
}

packages=$(missing "$1" | tr '\n' ' ')
packages=${packages% }
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
  line=$(elsewhere "$1")
  [ -n "$line" ] || cannot "these are missing, install them with your system's package manager: $packages"
  cannot "these are missing: $packages
Install them as root, then run this again:
  $line"
fi

as_root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || cannot "these are missing: $packages
Install them as root, then run this again:
  apt-get update && apt-get install -y --no-install-recommends $packages"
  as_root=sudo
fi

echo "installing with apt: $packages"
# sudo asks for its own password where it needs one.
# shellcheck disable=SC2016,SC2086  # the inner shell expands "$@"; one package per word is meant
$as_root sh -c 'export DEBIAN_FRONTEND=noninteractive
  dpkg --configure -a >/dev/null 2>&1 # an apt that was interrupted goes on
  apt-get -qq update &&
    apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >/dev/null' \
  apt $packages || cannot "apt could not install: $packages
Its reasons are above. Without a way to a Debian mirror nothing can be installed; then run this again."
