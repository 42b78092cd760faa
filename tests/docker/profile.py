"""docs/guide/containers/seccomp.json out of Docker's default profile: ``python -m tests.docker.profile DEFAULT.json``.

Docker's rules with conditions on capabilities are left out, and none is made instead: containerd, which reads the profile in
Kubernetes, knows no conditions and would apply every rule. So the result is the same whatever capabilities a container has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROFILE = Path(__file__).parents[2] / "docs/guide/containers/seccomp.json"
ARCHITECTURES = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"]
MACHINES = {"amd64", "arm64"}
ALLOW = "SCMP_ACT_ALLOW"
NEW_USER = 0x10000000

# What bubblewrap and dativo-confine need beyond Docker's default, one purpose each.
ADDED: tuple[dict[str, Any], ...] = (
    {
        "comment": "dativo: bubblewrap makes a user namespace and, together with it, all others (CLONE_NEWUSER must be set)",
        "names": ["clone"],
        "action": ALLOW,
        "args": [{"index": 0, "value": NEW_USER, "valueTwo": NEW_USER, "op": "SCMP_CMP_MASKED_EQ"}],
    },
    {
        "comment": "dativo: bubblewrap builds the root of a plugin and leaves the old one",
        "names": ["mount", "pivot_root", "umount2"],
        "action": ALLOW,
    },
    {
        "comment": "dativo: bubblewrap names the host inside",
        "names": ["sethostname"],
        "action": ALLOW,
    },
    {
        "comment": "dativo: stage 1 makes protected paths below a write grant read-only, in namespaces of its own",
        "names": ["mount_setattr", "move_mount", "open_tree", "unshare"],
        "action": ALLOW,
    },
    {
        "comment": "dativo: what listens for the broker is made in the network namespace of the plugin",
        "names": ["setns"],
        "action": ALLOW,
    },
)


def derive(default: dict[str, Any], added: tuple[dict[str, Any], ...] = ADDED) -> dict[str, Any]:
    """Return ``default`` as it holds for a container without capabilities on x86-64 and aarch64, and ``added`` after it."""
    rules = []
    for rule in default["syscalls"]:
        includes = rule.get("includes", {})
        if includes.get("caps") or not MACHINES & set(includes.get("arches", MACHINES)):
            continue
        kept = ("comment", "names", "action", "errnoRet", "args")
        rules.append({key: rule[key] for key in kept if key in rule})
    return {
        "defaultAction": default["defaultAction"],
        "defaultErrnoRet": default["defaultErrnoRet"],
        "architectures": ARCHITECTURES,
        "syscalls": [*rules, *added],
    }


def without(profile: dict[str, Any], name: str) -> dict[str, Any]:
    """Return ``profile`` without what it adds for the call ``name``."""
    rules = []
    for rule in profile["syscalls"]:
        if rule.get("comment", "").startswith("dativo: "):
            rule = {**rule, "names": [other for other in rule["names"] if other != name]}
        if rule["names"]:
            rules.append(rule)
    return {**profile, "syscalls": rules}


def text(profile: dict[str, Any]) -> str:
    """Return the file's text: a line for each rule."""
    rules = ",\n    ".join(json.dumps(rule) for rule in profile["syscalls"])
    head = json.dumps({key: value for key, value in profile.items() if key != "syscalls"}, indent=2)
    return f'{head[:-2]},\n  "syscalls": [\n    {rules}\n  ]\n}}\n'


if __name__ == "__main__":
    PROFILE.write_text(text(derive(json.loads(Path(sys.argv[1]).read_text()))))
