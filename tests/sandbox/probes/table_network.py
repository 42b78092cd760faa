"""The network (D of the attack list) of a process without a grant; with one: test_served_network.py."""

from __future__ import annotations

from typing import Final

from tests.sandbox.probes.catalogue import IS_ROOT, Probe, answers

CAP_NET_RAW: Final = 13
_TCP: Final = answers(net="ECONNREFUSED", landlock="EACCES")


def _family(id: str, title: str, *numbers: str, works: tuple[str, ...] = ()) -> Probe:
    """A kind of socket; ``works``: this kernel may not have it."""
    walls = answers(seccomp="EPERM")
    return Probe(id, title, "open_socket", numbers, walls, works=works)


_ABSENT: Final = ("EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT")

PROBES: Final = (
    Probe("D55", "reach a service on the host's loopback", "connect", ("127.0.0.1", "{tcp}"), _TCP, landlock_abi=4),
    Probe("D55any", "the same by 0.0.0.0", "connect", ("0.0.0.0", "{tcp}"), _TCP, landlock_abi=4),
    Probe("D55mapped", "the same by ::ffff:127.0.0.1", "connect", ("::ffff:127.0.0.1", "{tcp}"), _TCP, landlock_abi=4),
    Probe("D55v6", "the same by ::1", "connect", ("::1", "{tcp6}"), _TCP, landlock_abi=4),
    Probe("D56", "send to a service on the host's loopback", "send_datagram", ("{udp}",),
          answers(net="ECONNREFUSED")),
    Probe("D57fast", "connect by a send", "connect_fast", ("{tcp}",),
          answers(seccomp="EPERM", net="ECONNREFUSED")),
    Probe("D57option", "connect by a first write", "connect_by_option", ("{tcp}",),
          answers(seccomp="EPERM", net="ECONNREFUSED", landlock="EACCES"), landlock_abi=4),
    Probe("D57mptcp", "connect by multipath TCP", "connect", ("127.0.0.1", "{tcp}", "262"),
          answers(seccomp="EPERM", net="ECONNREFUSED"), works=_ABSENT),
    Probe("D58", "talk to an abstract socket", "connect_unix", ("@{abstract}",),
          answers(seccomp="EPERM", net="ECONNREFUSED", landlock="EPERM"), landlock_abi=6),
    Probe("D64", "wait for another plugin on a port", "listen", ("127.0.0.1", "0"),
          answers(landlock="EACCES"), landlock_abi=4),
    Probe("D64see", "see the host's interfaces", "other_interfaces", (), answers(net="ENODATA")),
    Probe("C49raw", "open a raw socket", "open_socket", ("2", "3", "1"),
          answers(seccomp="EPERM", capabilities="EPERM"), needs=CAP_NET_RAW),
    Probe("C49packet", "listen on the wire", "open_socket", ("17", "3", "0"),
          answers(seccomp="EPERM", capabilities="EPERM"), needs=CAP_NET_RAW),
    Probe("C49up", "change an interface", "set_interface_up", (), answers(capabilities="EPERM"),
          outside=IS_ROOT),
    _family("C49unix", "open a unix socket", "1", "1", "0"),
    _family("C49events", "hear of the kernel's devices", "16", "3", "15"),
    _family("C49audit", "reach the audit", "16", "3", "9", works=_ABSENT),
    _family("C49alg", "use the kernel's cryptography", "38", "5", "0", works=_ABSENT),
    _family("C49vsock", "reach the machine's host", "40", "1", "0", works=_ABSENT),
    _family("C49tipc", "open a cluster socket", "30", "1", "0", works=_ABSENT),
    _family("C49sctp", "open an SCTP socket", "2", "1", "132", works=_ABSENT),
    Probe("R3filter", "attach a program to a socket", "attach_filter", ("26",),
          answers(seccomp="EPERM")),
    Probe("R3reuse", "attach a program to a port", "attach_filter", ("51",),
          answers(seccomp="EPERM"), works=("EINVAL", "ENOENT")),
    Probe("R3ulp", "have the kernel speak TLS", "use_upper_protocol", (), answers(seccomp="EPERM"),
          works=("ENOTCONN", "ENOENT")),
)  # fmt: skip
