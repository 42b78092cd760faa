#!/usr/bin/env bash
# What the test machine does: facts, then the tests of the walls as three who may make different cgroups. The last line tells.
set -u
cd /payload/checkout
export PATH=/payload/env/bin:/usr/sbin:/usr/bin:/sbin:/bin DATIVO_BIN_DIR=/payload/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 HOME=/root
failed=0
dmesg -n 1 # the console is ours

section() { # name, then the command
    local name=$1 status=0 begun=$SECONDS
    shift
    printf '\ndativo-vm: --- %s\n' "$name"
    timeout 900 "$@" </dev/null 2>&1 || status=$?
    printf 'dativo-vm: %s: status %s in %s s\n' "$name" "$status" $((SECONDS - begun))
    [ "$status" = 0 ] || failed=1
}

told() { # name, status, a pattern of what must be said, then the command
    local name=$1 status=$2 text=$3 said found=0 begun=$SECONDS
    shift 3
    said=$(timeout 120 "$@" </dev/null 2>&1) || found=$?
    printf '\ndativo-vm: --- %s\n%s\n' "$name" "$said"
    printf 'dativo-vm: %s: status %s in %s s\n' "$name" "$found" $((SECONDS - begun))
    [ "$found" = "$status" ] && [[ $said == *$text* ]] && return
    printf 'dativo-vm: %s: not status %s, or %s was not said\n' "$name" "$status" "$text"
    failed=1
}

tests=(python -m pytest -q --color=no -p no:cacheprovider --tb=short)
user=(runuser -u tester -- env HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000)
doctor=(python -m dativo.kernel doctor)
root_scope=(systemd-run --quiet --scope -p Delegate=yes)
scope=("${user[@]}" systemd-run --quiet --user --scope -p Delegate=yes)
cgroups=(tests/sandbox/test_life.py tests/sandbox/test_visible.py tests/sandbox/test_cgroup_v2.py)
walls=(tests/sandbox --ignore=tests/sandbox/test_probes.py)
users_walls=("${walls[@]}")
scoped=("${cgroups[@]}")
undelegated=(tests/sandbox/test_life.py tests/sandbox/test_visible.py)
probes=(tests/sandbox/test_probes.py)
# An emulated machine would take an hour. There no test runs twice but where it may find another cgroup, and no probe in an image.
emulated=
if grep -q dativo.emulated /proc/cmdline; then
    emulated=yes
    users_walls=("${cgroups[@]}" tests/sandbox/test_walls.py)
    scoped=(tests/sandbox/test_cgroup_v2.py)
    undelegated+=(-k 'degraded or visible')
    probes+=(-k 'not image')
fi

# As any machine has one: a probe looks for it.
ip link add dativo0 type dummy
ip link set dativo0 up

echo 'dativo-vm: begin'
printf '%s, systemd %s, %s, cgroup2: %s\n' "$(uname -r)" "$(systemctl --version | sed -n '1s/systemd //p')" \
    "$(bwrap --version)" "$(cat /sys/fs/cgroup/cgroup.controllers)"

date
told 'root, doctor' 0 'version 2: memory, pids and cpu at /sys/fs/cgroup/dativo' "${doctor[@]}"
told 'root, main job' 0 'cgroup v2*read: 5000 records' /payload/job.sh
told 'user in a delegated scope, main job' 0 'cgroup v2*read: 5000 records' "${scope[@]}" /payload/job.sh
section 'relay' "${tests[@]}" tests/contract/test_relay.py tests/contract/test_relay_reader.py
section 'root, limits of runs' "${tests[@]}" tests/integration/test_bad_sources.py -k 'eats_memory or too_small'
section 'root, in a delegated scope' "${root_scope[@]}" "${tests[@]}" "${scoped[@]}"
told 'root with a shell in a delegated scope, doctor' 0 'system.slice/run-' \
    "${root_scope[@]}" bash -c 'sleep 60 >/dev/null 2>&1 & "$@"; exit $?' bash "${doctor[@]}"
told 'user in a delegated scope, doctor' 0 'user@1000.service/app.slice/run-' "${scope[@]}" "${doctor[@]}"
told 'user with a shell in a delegated scope, doctor' 0 'user@1000.service/app.slice/run-' \
    "${scope[@]}" bash -c 'sleep 60 >/dev/null 2>&1 & "$@"; exit $?' bash "${doctor[@]}"
section 'user in a delegated scope' "${scope[@]}" "${tests[@]}" "${users_walls[@]}"
section 'user without delegation' "${user[@]}" "${tests[@]}" "${undelegated[@]}"
told 'user without delegation, doctor' 9 'Type: systemd-run --user --scope -p Delegate=yes' "${user[@]}" "${doctor[@]}"
section 'root' "${tests[@]}" "${walls[@]}"
[ -n "$emulated" ] || section 'root, unit tests' "${tests[@]}" tests/unit/sandbox
section 'root, probes' "${tests[@]}" "${probes[@]}"

# What only a machine of one's own can be given: switches that would hit everything else on it.
sysctl -q -w user.max_user_namespaces=0
told 'no user namespaces, doctor' 9 'sysctl -w user.max_user_namespaces=15000' "${doctor[@]}"
sysctl -q -w user.max_user_namespaces=15000
chmod u+s /usr/bin/bwrap
told 'set-uid bubblewrap, doctor' 9 'chmod u-s,g-s /usr/bin/bwrap' "${doctor[@]}"
chmod u-s /usr/bin/bwrap
loginctl disable-linger tester
systemctl stop user@1000.service
told 'user of sudo -u, doctor' 9 'loginctl enable-linger 1000' "${user[@]}" "${doctor[@]}"

[ "$failed" = 0 ] && echo 'dativo-vm: all passed' || echo 'dativo-vm: FAILED'
