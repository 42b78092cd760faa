"""What is possible inside and stays so; acts and published patterns whose tests are no probes."""

from __future__ import annotations

from typing import Final

from tests.sandbox.probes.catalogue import MACHINE, Elsewhere, Residual

LOADER: Final = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}[MACHINE]

RESIDUALS: Final = (
    Residual("A6loader", "execute from /tmp through the loader", "execute_copy", ("/tmp", LOADER),
             "an interpreter runs what it reads: no execution from /tmp is hygiene, not a wall", ("host", "image")),
    Residual("A6bind", "execute from a granted folder through the loader", "execute_copy", ("{out}", LOADER),
             "the engine cannot mount what is granted so that nothing of it is executed", ("docker",)),
    Residual("A3mounts", "read the own mounts", "read_file", ("/proc/self/mountinfo",),
             "shows the host's paths of what was granted"),
    Residual("C44memory", "make memory writable and executable", "executable_memory", (),
             "compilers within programs need it"),
    Residual("C49routes", "ask for the own addresses and routes", "ask_routes", (),
             "the C library asks; there is nothing but the own loopback"),
    Residual("C50own", "make shared memory", "own_shared_memory", (),
             "in the own ipc namespace"),
    Residual("C51stat", "watch the machine's load", "read_file", ("/proc/stat",),
             "timing and load are side channels"),
    Residual("C51cpu", "learn the processor", "read_file", ("/proc/cpuinfo",),
             "programs choose their code by it"),
    Residual("C51version", "learn the kernel's version", "read_file", ("/proc/version",),
             "uname tells it too"),
    Residual("D64datagram", "bind a datagram socket", "bind_datagram", (),
             "Landlock knows no UDP; in the own namespace nobody else sends"),
    Residual("B24lower", "lower the own priority", "lower_priority", (), "harms nobody else"),
)  # fmt: skip

_HANDED, _LIFE = "sandbox/test_handed.py", "sandbox/test_life.py"
_JAIL, _MOUNTS = "integration/test_jail.py", "unit/sandbox/test_mounts.py"
_WALLS, _PROBES = "sandbox/test_walls.py", "sandbox/test_probes.py"
_SERVED, _BROKER = "sandbox/test_served_network.py", "contract/test_broker.py"
_NAMES, _BOUNDS = "contract/test_broker_names.py", "contract/test_broker_limits.py"
_RELAY, _WRITER = "contract/test_relay_lines.py", "contract/test_writer_lines.py"
_INSTALL, _SECRETS = "integration/test_install.py", "integration/test_secrets.py"

ACTS: Final = (
    Elsewhere("A7", "a link in the output leads elsewhere", (
        "unit/kernel/test_warehouse.py::test_a_link_planted_in_the_warehouse_is_not_followed",
        f"{_JAIL}::test_links_lead_nowhere")),
    Elsewhere("B22", "eat memory, in one process and in many", (
        f"{_LIFE}::test_memory", f"{_LIFE}::test_memory_of_a_child_ends_the_tree",
        f"{_LIFE}::test_degraded_memory_is_of_the_tree")),
    Elsewhere("B26", "ignore SIGTERM",
              (f"{_LIFE}::test_whoever_ignores_term_is_killed_with_all_it_started",)),
    Elsewhere("B27", "leave a daemon behind", (f"{_LIFE}::test_daemons_die_with_the_program",)),
    Elsewhere("B28", "keep stdout open after the end",
              (f"{_LIFE}::test_stdout_ends_when_the_program_closes_it",)),
    Elsewhere("B29", "never end", (f"{_LIFE}::test_wall_time",)),
    Elsewhere("D52", "reach the metadata of the machine's host", (
        f"{_SERVED}::test_no_way_leads_to_another_address",
        f"{_BROKER}::test_a_literal_network_may_not_hold_what_nobody_may_reach")),
    Elsewhere("D53", "have a name lead to a private address",
              (f"{_BROKER}::test_what_may_not_be_dialled_is_left_out",)),
    Elsewhere("D54", "change a name's address after the check",
              (f"{_BROKER}::test_the_name_is_resolved_at_each_connection_and_once",)),
    Elsewhere("D56names", "send data out in names", (
        f"{_SERVED}::test_an_ungranted_name_has_none",
        f"{_NAMES}::test_what_is_not_granted_is_no_name_and_told")),
    Elsewhere("D59", "reach another name of a granted host",
              (f"{_BROKER}::test_another_server_name_reaches_nobody",)),
    Elsewhere("D60", "be sent on to another host",
              ("integration/test_network.py::test_a_granted_name_is_reached_and_no_other",)),
    Elsewhere("D61", "spell a name so that it passes",
              ("unit/kernel/test_network.py::test_names", f"{_NAMES}::test_a_name_that_is_none")),
    Elsewhere("D62", "use another port of a granted name", (
        f"{_SERVED}::test_an_ungranted_port_is_refused",
        f"{_BROKER}::test_only_the_granted_port_of_a_name")),
    Elsewhere("D63", "exhaust the broker", (
        f"{_BOUNDS}::test_open_connections_are_bounded",
        f"{_BOUNDS}::test_new_connections_have_a_rate",
        f"{_BROKER}::test_a_hello_has_its_time")),
    Elsewhere("D64bind", "listen beside the broker",
              (f"{_SERVED}::test_nobody_binds_beside_the_broker",)),
    Elsewhere("D64change", "change the own network",
              (f"{_SERVED}::test_the_namespace_is_not_the_programs_to_change",)),
    Elsewhere("D65", "ask malformed questions", (
        f"{_NAMES}::test_malformed_queries_over_udp", f"{_NAMES}::test_malformed_queries_over_tcp",
        f"{_NAMES}::test_noise_does_no_harm")),
    Elsewhere("E66", "write a line without end", (
        f"{_WRITER}::test_a_line_without_end_is_cut_off_early",
        f"{_RELAY}::test_an_endless_line_ends_at_the_limit")),
    Elsewhere("E67", "write small lines without end", (
        f"{_WRITER}::test_messages_are_counted_and_bounded", f"{_RELAY}::test_a_million_tiny_lines")),
    Elsewhere("E68", "stop in the middle of a line",
              (f"{_WRITER}::test_half_a_line_at_the_end_is_an_error",)),
    Elsewhere("E70", "flood stderr", (f"{_LIFE}::test_a_flood_of_stderr_is_bounded",)),
    Elsewhere("E71", "speak to the terminal through a log",
              (f"{_JAIL}::test_what_a_terminal_would_obey_is_shown",)),
    Elsewhere("E72", "write what is no text", (f"{_WRITER}::test_bytes_that_are_not_text",)),
    Elsewhere("E73", "write JSON that parsers choke on", (
        f"{_RELAY}::test_every_json_of_the_parsing_suite_passes_or_is_refused",
        "unit/protocol/test_jsontext.py::test_huge_integers_are_a_violation_not_a_crash")),
    Elsewhere("E74", "forge a state",
              (f"{_RELAY}::test_what_is_forged_or_beyond_a_bound_ends_the_run",)),
    Elsewhere("E77", "declare a schema that is a bomb",
              ("unit/protocol/test_singerschema.py::test_a_bomb_of_references_is_bounded",)),
    Elsewhere("E79", "echo a secret", (f"{_SECRETS}::test_hunt",)),
    Elsewhere("E81", "end well without having finished",
              ("contract/test_writer_epochs.py::test_end_of_file_is_not_success",)),
    Elsewhere("F84", "ask for everything", (
        "integration/test_permission.py::test_more_than_the_default_needs_an_approval",
        "integration/test_network.py::test_a_network_needs_an_approval")),
    Elsewhere("F85", "run code while it is installed", (
        f"{_INSTALL}::test_nothing_that_was_downloaded_is_executed",
        "integration/test_sdists.py::test_a_hostile_build_gets_nothing")),
    Elsewhere("F87", "change another's installed files",
              (f"{_INSTALL}::test_a_changed_file_stops_the_launch",)),
    Elsewhere("F88", "find a secret in arguments or files",
              (f"{_SECRETS}::test_private_files_are_private", f"{_SECRETS}::test_hunt")),
    Elsewhere("R6", "be the broker, and lie",
              ("integration/test_lying_broker.py::test_a_lie_ends_what_it_serves_at_once",)),
    Elsewhere("R9", "launder a descriptor of the user's",
              (f"{_JAIL}::test_descriptors_cannot_be_laundered",)),
    Elsewhere("R12", "keep root's group",
              ("sandbox/test_launch.py::test_groups_are_given_and_no_others",
               f"{_WALLS}::test_never_root")),
    Elsewhere("R19", "plant files that others obey",
              (f"{_JAIL}::test_protected_files_stay_as_they_are",
               f"{_HANDED}::test_protected_paths_stay")),
)  # fmt: skip

PATTERNS: Final = (
    Elsewhere("CVE-2019-5736", "the runtime is overwritten through /proc/self/exe",
              (f"{_WALLS}::test_stage_2_cannot_be_changed",)),
    Elsewhere("CVE-2024-21626", "a descriptor or folder of the runtime's is left open",
              (f"{_WALLS}::test_only_the_descriptors_that_were_handed_over",
               "sandbox/test_launch.py::test_a_descriptor_too_many_is_found")),
    Elsewhere("CVE-2026-87766", "a mount point is made below a planted link",
              (f"{_MOUNTS}::test_a_link_planted_in_a_writable_folder_is_refused",
               f"{_MOUNTS}::test_nothing_is_mounted_in_what_the_program_can_write")),
    Elsewhere("CVE-2021-30465", "a path is exchanged while it is mounted",
              (f"{_HANDED}::test_a_protected_path_that_is_not_itself_is_refused",)),
    Elsewhere("CVE-2017-5226", "input is typed into the terminal",
              (f"{_JAIL}::test_nothing_is_typed_into_a_terminal",
               f"{_PROBES}::test_refused_inside")),
    Elsewhere("CVE-2023-1523", "high bits hide a request from the filter",
              ("unit/sandbox/test_seccomp.py::test_arguments", f"{_PROBES}::test_refused_inside")),
    Elsewhere("CVE-2024-27297", "descriptors pass between processes by an abstract socket",
              (f"{_PROBES}::test_refused_inside",)),
    Elsewhere("CVE-2022-0492", "a release agent is written",
              (f"{_PROBES}::test_refused_inside",)),
    Elsewhere("CVE-2025-66479", "an empty list of hosts means every host",
              ("unit/sandbox/test_network.py::test_what_must_stand",)),
)  # fmt: skip
