#!/usr/bin/env bash
# Everything a fresh machine needs besides git, make, a C compiler, Python >= 3.11 with venv, and cargo.
# Names each missing thing with the line to type; installs bubblewrap itself where it may.
set -euo pipefail
cd "$(dirname "$0")"

sudo=
[ "$(id -u)" = 0 ] || sudo="sudo "
install="${sudo}apt-get install -y"
missing=0
need() { # what, the line to type
    printf 'missing: %s\n    %s\n' "$1" "$2" >&2
    missing=1
}

command -v git >/dev/null || need git "$install git"
command -v cc >/dev/null || need "a C compiler" "$install build-essential"
python=$(command -v python3 || true)
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    need "Python >= 3.11" "$install python3 python3-venv"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    need "python3-venv" "$install python3-venv"
fi
cargo=$(cargo --version 2>/dev/null || true)
minor=$(sed -nE 's/^cargo 1\.([0-9]+).*/\1/p' <<<"$cargo")
if [ "${minor:-0}" -lt 85 ]; then
    if command -v rustup >/dev/null; then
        line="rustup update stable && rustup default stable"
    elif [ -n "$(apt-cache madison rustup 2>/dev/null)" ]; then
        line="$install rustup && rustup default stable"
    else # Debian 12 and Ubuntu 22.04 do not have it, and their cargo is too old
        line="curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env"
    fi
    need "cargo >= 1.85${cargo:+ (found $cargo)}" "$line"
fi
if ! command -v bwrap >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bubblewrap >/dev/null
    elif sudo -n true 2>/dev/null && command -v apt-get >/dev/null; then
        sudo -n apt-get update -qq && sudo -n apt-get install -y -qq bubblewrap >/dev/null
    else
        need bubblewrap "$install bubblewrap"
    fi
fi
[ "$missing" = 0 ] || exit 1

if command -v uv >/dev/null && uv --version | grep -qE '^uv 0\.1[3-9]\.'; then
    uv=uv
else
    [ -x .tools/bin/uv ] || { "$python" -m venv .tools && .tools/bin/pip install -q 'uv>=0.13,<0.14'; }
    uv=.tools/bin/uv
fi
"$uv" sync --quiet --locked --python "$("$python" -c 'import sys; print(sys.executable)')"
