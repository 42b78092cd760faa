#!/usr/bin/env bash
# Run pytest as a plain user when we are root. Arguments go to pytest; `make test-plain` says which folders.
#
# The user has no name, no group, no capability and no cgroup of its own. It gets a copy of the working tree, the executables of
# .venv/bin (which `make setup` builds) and an environment of the distribution's Python, since a checkout and an interpreter
# below /root are out of its reach. The environment and uv's cache are kept for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'plain_user.sh: %s\n' "$1" >&2
    exit 2
}

uid=64321
python=/usr/bin/python3
uv=.venv/bin/uv
place=/var/tmp/dativo-plain-$uid

[ "$(id -u)" = 0 ] || fail "only root can become another user; as a plain user, make test is the same"
"$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$python is older than 3.11 or lacks venv: apt-get install -y python3 python3-venv"
[ -x "$uv" ] || fail "there is no .venv: make setup"

# The folder itself stays root's, so that nobody can put another in its place; what lies in it is the user's.
mkdir -p "$place"
[ ! -L "$place" ] && [ -O "$place" ] || fail "$place belongs to somebody else: remove it"
chmod 0755 "$place"
exec 9>"$place/lock"
flock -n 9 || fail "another one is running"
rm -rf "$place/checkout" "$place/bin" "$place/home" "$place/tmp"
mkdir "$place/checkout" "$place/bin" "$place/home" "$place/tmp"
mkdir -p "$place/cache"

git ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -r -d '' path; do
        [ ! -e "$path" ] || printf '%s\0' "$path" # not those that are deleted and not committed yet
    done | tar --create --null --files-from=- | tar --extract --no-same-owner --directory "$place/checkout"
git init --quiet "$place/checkout" # tests ask git what belongs to the tree
git -C "$place/checkout" add --all
cp .venv/bin/dativo-{broker,confine,inspector,pump,relay,writer} "$place/bin/"

stamp=$({ "$python" -VV && cat uv.lock pyproject.toml; } | sha256sum)
if [ "$(cat "$place/env/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$place/env"
    "$uv" venv --quiet --python "$python" "$place/env"
    "$uv" export --quiet --locked --no-emit-workspace --no-hashes --no-group native |
        "$uv" pip install --quiet --python "$place/env/bin/python" --link-mode=copy --compile-bytecode --requirements -
    "$uv" pip install --quiet --python "$place/env/bin/python" --no-deps --editable "$place/checkout"
    printf '%s\n' "$stamp" >"$place/env/stamp"
fi
chown -R "$uid:$uid" "$place"/{checkout,bin,home,tmp,cache,env}
chmod -R u+rwX,go+rX "$place/checkout" "$place/bin"

cd "$place/checkout"
as_user=(setpriv --reuid="$uid" --regid="$uid" --clear-groups --bounding-set=-all --inh-caps=-all)
passed=()
for name in SSL_CERT_FILE UV_DEFAULT_INDEX UV_INDEX_URL DATIVO_CORPORA DATIVO_CAPTURES DATIVO_NIGHTLY; do
    value=${!name:-}
    if [[ $value == /* ]] && ! "${as_user[@]}" test -r "$value"; then
        printf 'plain_user.sh: left out %s: the user cannot read %s\n' "$name" "$value" >&2
    elif [ -n "$value" ]; then
        passed+=("$name=$value")
    fi
done
exec "${as_user[@]}" \
    env -i PATH="$place/env/bin:/usr/bin:/bin" HOME="$place/home" TMPDIR="$place/tmp" LANG=C.UTF-8 \
    UV_CACHE_DIR="$place/cache" DATIVO_BIN_DIR="$place/bin" DATIVO_CONFORMANCE_ENVIRONMENTS="$place/cache/conformance" "${passed[@]}" \
    python -m pytest -p no:cacheprovider "$@"
