#!/usr/bin/env bash
# Run the tests of the walls in a machine of its own: Debian 12 under systemd, with cgroups of version 2 alone.
#
# As root, as a plain user in a delegated scope, and as one without any: inside.sh. The root file system is built once and kept below
# ${XDG_CACHE_HOME:-~/.cache}/dativo/vm; the machine writes to a throw-away layer over it. With KVM this takes some five minutes,
# without it, emulated, half an hour. $DATIVO_BIN_DIR names other executables than those installed. Exit status 0 when all passed.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    printf 'vm/run.sh: %s\n' "$1" >&2
    exit 2
}

[ "$(uname -m)" = x86_64 ] || fail "the machine is an x86-64 one, and this is $(uname -m)"
[ "$(id -u)" = 0 ] || fail "building a root file system needs root: sudo make test-vm"
packages=(qemu-system-x86 mmdebstrap e2fsprogs)
for program in qemu-system-x86_64 mmdebstrap mke2fs; do
    if ! command -v "$program" >/dev/null; then
        printf 'vm/run.sh: %s is missing: apt-get install %s\n' "$program" "${packages[*]}"
        command -v apt-get >/dev/null || fail "this is no Debian: install them by hand"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
        break
    fi
done
python=/usr/bin/python3
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    fail "$python is not 3.11, which the machine has"
[ -x .venv/bin/uv ] || fail "there is no .venv: make setup"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/dativo/vm
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || fail "another one is running"
timeout 1200 tests/vm/image.sh "$cache"

# The second disk: the working tree, the executables, and an environment of the distribution's Python with what the tests import.
stage=$cache/stage
rm -rf "$stage"
mkdir -p "$stage/checkout" "$stage/bin"
git ls-files -z --cached --others --exclude-standard --deduplicate -- \
    kernel protocol plugins connectors sandbox schemas tests bench docs pyproject.toml |
    while IFS= read -r -d '' path; do
        [ ! -e "$path" ] || printf '%s\0' "$path"
    done | tar --create --null --files-from=- | tar --extract --no-same-owner --directory "$stage/checkout"
cp "${DATIVO_BIN_DIR:-.venv/bin}"/dativo-{broker,confine,inspector,pump,relay,writer} "$stage/bin/"
cp tests/vm/{inside,job}.sh "$stage/"
.venv/bin/uv venv --quiet --python "$python" "$stage/env"
.venv/bin/uv export --quiet --locked --no-emit-workspace --no-hashes --no-group dev --no-group native >"$stage/versions"
.venv/bin/uv export --quiet --locked --no-emit-workspace --no-hashes --no-group native >"$stage/constraints"
# Compiled here: an emulated machine spends most of its time on what it has to compile.
.venv/bin/uv pip install --quiet --python "$stage/env/bin/python" --link-mode=copy --compile-bytecode \
    --requirements "$stage/versions" --constraint "$stage/constraints" pytest hypothesis
"$python" -m compileall -q -j 0 "$stage/checkout"
printf '#!/payload/env/bin/python\nfrom dativo.kernel.__main__ import main\nmain()\n' >"$stage/env/bin/dativo"
chmod +x "$stage/env/bin/dativo"
for room in kernel protocol plugins connectors sandbox schemas; do
    printf '/payload/checkout/%s\n' "$room"
done >"$stage/env/lib/python3.11/site-packages/dativo.pth"
chown -R 0:0 "$stage"
chmod -R go+rX "$stage"
rm -f "$cache/payload.img"
mke2fs -q -t ext4 -d "$stage" -L payload "$cache/payload.img" 3G

log=$cache/console.log
boot() { # seconds, then how the processor is made
    local within_s=$1 status=0 more=
    shift
    [[ $2 != tcg* ]] || more=dativo.emulated
    printf 'vm/run.sh: %s, at most %s s; the console is in %s\n' "$2" "$within_s" "$log"
    rm -f "$log"
    timeout --kill-after=10 "$within_s" qemu-system-x86_64 "$@" -machine q35 -smp 2 -m 3072 -no-reboot -nodefaults \
        -display none -monitor none -nic none -serial "file:$log" -kernel "$cache/vmlinuz" -initrd "$cache/initrd.img" \
        -append "root=/dev/vda rw console=ttyS0 panic=-1 systemd.show_status=false $more" \
        -drive "file=$cache/root.img,format=raw,if=virtio,snapshot=on" \
        -drive "file=$cache/payload.img,format=raw,if=virtio,snapshot=on" </dev/null &
    local machine=$!
    # A KVM that is there need not run this kernel, in a machine within a machine: then not a line comes.
    for ((waited = 0; waited < 30; waited++)); do
        sleep 1
        kill -0 "$machine" 2>/dev/null || break
        ! grep -q 'Linux version' "$log" 2>/dev/null || break
    done
    if [[ $2 != tcg* ]] && ! grep -q 'Linux version' "$log" 2>/dev/null; then
        kill "$machine" 2>/dev/null || true
        wait "$machine" || true
        return 1
    fi
    wait "$machine" || status=$?
    return "$status"
}

status=1
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    boot 1200 -accel kvm -cpu host,arch-capabilities=off && status=0 || status=$?
fi
if [ "$status" != 0 ] && ! grep -q 'Linux version' "$log" 2>/dev/null; then
    boot 2700 -accel tcg,thread=multi -cpu max && status=0 || status=$?
fi

tr -d '\r' <"$log" | sed -n '/^dativo-vm: begin/,$p'
[ "$status" = 0 ] || fail "the machine did not end by itself in time (status $status)"
grep -q '^dativo-vm: all passed' "$log" || fail "not all passed"
