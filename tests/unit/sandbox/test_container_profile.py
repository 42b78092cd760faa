"""The profiles of docs/guide/containers: what they add to Docker's default, and that the pod says the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.docker.container import CONTAINERS, pod
from tests.docker.profile import ADDED, PROFILE, derive, text

from dativo.sandbox.seccomp.policy import Verdict, load_policy


def test_the_profile_is_dockers_default_and_what_is_added() -> None:
    if not (corpora := os.environ.get("DATIVO_CORPORA")):
        pytest.skip("DATIVO_CORPORA is not set: no corpora here")
    default = json.loads((Path(corpora) / "seccomp/docker-default.json").read_text())
    assert PROFILE.read_text() == text(derive(default))


def test_it_knows_no_conditions() -> None:
    """containerd would apply a rule with ``includes`` to every container."""
    profile = json.loads(PROFILE.read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    known = {"comment", "names", "action", "args", "errnoRet"}
    assert all(set(rule) <= known for rule in profile["syscalls"])


def test_whatever_a_plugin_may_call_the_container_may() -> None:
    allowed = {
        name
        for rule in json.loads(PROFILE.read_text())["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    verdicts = load_policy().verdicts
    ours = {name for name, verdict in verdicts.items() if verdict in (Verdict.ALLOW, Verdict.ARGUMENTS)}  # fmt: skip
    assert ours <= allowed
    # None of what is added is there for a plugin, clone without a namespace apart.
    added = {name for rule in ADDED for name in rule["names"]}
    assert {name for name in added if verdicts[name] is not Verdict.REFUSE} == {"clone"}


def test_the_pod_names_the_files_beside_it() -> None:
    [container] = pod()["containers"]
    security = container["securityContext"]
    seccomp = Path(security["seccompProfile"]["localhostProfile"]).name
    assert (CONTAINERS / seccomp) == PROFILE
    profile = security["appArmorProfile"]["localhostProfile"]
    assert f"profile {profile} " in (CONTAINERS / "apparmor").read_text()
    assert "add" not in security["capabilities"]
