#!/usr/bin/env bash
# Run tests as a plain user when we are root: a copy of the checkout and an environment that this user can read, made from the
# distribution's Python. Arguments go to pytest. The user has no name, no home and no cgroup of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "plain_user.sh: only root can become another user" >&2; exit 2; }

uid=64321
python=/usr/bin/python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "plain_user.sh: $python is older than 3.11" >&2
    exit 2
}
uv=$(command -v uv || true)
[ -n "$uv" ] || uv=$PWD/.tools/bin/uv
place=/var/tmp/dativo-plain-$uid
rm -rf "$place"
mkdir -p "$place/home" "$place/tmp" "$place/bin"
git ls-files -z | xargs -0 cp --parents -t "$place" 2>/dev/null || true
cp .venv/bin/dativo-writer .venv/bin/dativo-confine "$place/bin/"
"$uv" export --quiet --locked --no-emit-workspace --no-hashes --group dev --group reader -o "$place/requirements.txt"
"$uv" venv --quiet --python "$python" "$place/.venv"
"$uv" pip install --quiet --python "$place/.venv/bin/python" --link-mode=copy -r "$place/requirements.txt"
(cd "$place" && "$uv" pip install --quiet --python .venv/bin/python --no-deps -e .)
chown -R "$uid:$uid" "$place"
chmod -R u+rwX,go+rX "$place"
cd "$place"
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --bounding-set=-all --inh-caps=-all \
    env -i PATH="$place/.venv/bin:/usr/bin:/bin" HOME="$place/home" TMPDIR="$place/tmp" LANG=C.UTF-8 \
    DATIVO_BIN_DIR="$place/bin" DATIVO_PLAIN_USER=1 ${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} \
    ${DATIVO_CORPORA:+DATIVO_CORPORA="$DATIVO_CORPORA"} ${DATIVO_CAPTURES:+DATIVO_CAPTURES="$DATIVO_CAPTURES"} \
    .venv/bin/python -m pytest -p no:cacheprovider "$@"
