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
    Residual("A6plain", "execute from a granted folder through the loader", "execute_copy",
             ("{out}", LOADER), "only root can mount what is granted so that nothing of it is executed",
             ("host", "image"), plain=True),
    Residual("A6owner", "load a library from a granted folder", "map_copy", ("{out}",),
             "as by the loader", ("host", "image"), plain=True),
    Residual("A6load", "load a library from /tmp", "map_copy", ("/tmp",),
             "as by the loader", ("host", "image")),
    Residual("A6bound", "load a library from a granted folder", "map_copy", ("{out}",),
             "as by the loader", ("docker",)),
    Residual("A17memory", "make a memory file that can never be executed", "seal_memory", (),
             "counts as memory of the process", since=(6, 3)),
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
_STAGING, _NETWORK = "faults/test_staging.py", "integration/test_network.py"
_LYING, _EXCHANGE = "integration/test_lying_writer.py", "unit/kernel/test_exchange.py"
_TYPES, _TARGETS = "integration/test_types.py", "integration/test_foreign_targets.py"
_IMAGE, _DOCKER = "unit/plugins/test_image.py", "docker/test_backend.py"
_LOCK, _SHOW = "unit/kernel/test_lock.py", "unit/kernel/test_show.py"

ACTS: Final = (
    Elsewhere("A7", "a link in the output leads elsewhere", (
        "unit/kernel/test_warehouse.py::test_a_link_planted_in_the_warehouse_is_not_followed",
        f"{_JAIL}::test_links_lead_nowhere")),
    Elsewhere("A9", "exchange a file of the output while it is taken", (
        f"{_STAGING}::test_descriptor_kept_by_the_writer_changes_nothing",
        f"{_LYING}::test_a_file_that_is_swapped_after_it_was_told_of")),
    Elsewhere("A10", "leave something else than files, or too many", (
        f"{_STAGING}::test_hostile_file_is_refused",
        f"{_EXCHANGE}::test_what_is_neither_file_nor_folder_ends_the_run",
        f"{_EXCHANGE}::test_files_and_levels_are_bounded",
        f"{_EXCHANGE}::test_a_sparse_file_costs_what_it_takes")),
    Elsewhere("A12", "leave names that steer whoever reads them", (
        "unit/protocol/test_events.py::test_staged_paths_are_names_of_one_form",
        "integration/test_images.py::test_roots_hold_links_and_odd_names",
        f"{_SHOW}::test_nothing_controls_the_terminal")),
    Elsewhere("B22", "eat memory, in one process and in many", (
        f"{_LIFE}::test_memory", f"{_LIFE}::test_memory_of_a_child_ends_the_tree",
        f"{_LIFE}::test_degraded_memory_is_of_the_tree")),
    Elsewhere("B23", "take the processors", (f"{_LIFE}::test_what_its_limits_did_is_told",)),
    Elsewhere("B26", "ignore SIGTERM",
              (f"{_LIFE}::test_whoever_ignores_term_is_killed_with_all_it_started",)),
    Elsewhere("B27", "leave a daemon behind", (f"{_LIFE}::test_daemons_die_with_the_program",)),
    Elsewhere("B28", "keep stdout open after the end",
              (f"{_LIFE}::test_stdout_ends_when_the_program_closes_it",)),
    Elsewhere("B29", "never end", (f"{_LIFE}::test_wall_time",)),
    Elsewhere("B30", "fork and end, for ever",
              (f"{_LIFE}::test_a_fork_bomb_stays_below_the_limit",
               f"{_LIFE}::test_degraded_fork_bomb")),
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
    Elsewhere("E68silent", "say nothing more",
              ("integration/test_read.py::test_silence_beyond_the_grant_is_a_limit",
               f"{_LYING}::test_silence")),
    Elsewhere("E69", "read nothing of its input", (
        f"{_JAIL}::test_a_command_that_reads_nothing_ends",
        f"{_TARGETS}::test_a_slow_target_stops_the_source",
        "contract/test_relay_reader.py::"
        "test_a_reader_that_takes_nothing_blocks_the_source_but_not_the_kernel")),
    Elsewhere("E70", "flood stderr", (f"{_LIFE}::test_a_flood_of_stderr_is_bounded",)),
    Elsewhere("E71", "speak to the terminal through a log",
              (f"{_JAIL}::test_what_a_terminal_would_obey_is_shown",)),
    Elsewhere("E72", "write what is no text", (f"{_WRITER}::test_bytes_that_are_not_text",)),
    Elsewhere("E73", "write JSON that parsers choke on", (
        f"{_RELAY}::test_every_json_of_the_parsing_suite_passes_or_is_refused",
        "unit/protocol/test_jsontext.py::test_huge_integers_are_a_violation_not_a_crash")),
    Elsewhere("E74", "forge a state",
              (f"{_RELAY}::test_what_is_forged_or_beyond_a_bound_ends_the_run",)),
    Elsewhere("E75", "say things of the wrong stream, kind or time", (
        f"{_WRITER}::test_bad_lines_of_airbyte", f"{_WRITER}::test_bad_lines_of_singer",
        f"{_RELAY}::test_what_is_forged_or_beyond_a_bound_ends_the_run")),
    Elsewhere("E76", "name streams and columns so that they lead elsewhere or meet", (
        "faults/test_names.py::test_strange_stream_names",
        "faults/test_names.py::test_strange_property_names",
        "unit/plugins/test_identifiers.py::test_names_never_meet",
        "unit/plugins/test_identifiers.py::test_naughty_strings")),
    Elsewhere("E77", "declare a schema that is a bomb",
              ("unit/protocol/test_singerschema.py::test_a_bomb_of_references_is_bounded",)),
    Elsewhere("E78", "send times that no calendar has", (
        f"{_TYPES}::test_a_bad_value_ends_the_run_at_its_place",
        f"{_RELAY}::test_a_time_that_is_none_is_refused_in_translation")),
    Elsewhere("E79", "echo a secret", (f"{_SECRETS}::test_hunt",)),
    Elsewhere("E81", "end well without having finished",
              ("contract/test_writer_epochs.py::test_end_of_file_is_not_success",)),
    Elsewhere("E82", "speak another protocol or version", (
        f"{_RELAY}::test_what_is_tolerated_is_counted_and_strict_refuses_it",
        f"{_WRITER}::test_bad_lines_of_airbyte",
        "unit/protocol/test_events.py::test_another_major_is_refused_and_a_newer_minor_is_not")),
    Elsewhere("F83", "be named so that a tool takes it for an option", (
        f"{_LOCK}::test_a_reference_only_names_something_in_the_index",
        "unit/sandbox/test_values.py::test_plans_end_each_field")),
    Elsewhere("F84", "ask for everything", (
        "integration/test_permission.py::test_more_than_the_default_needs_an_approval",
        "integration/test_network.py::test_a_network_needs_an_approval")),
    Elsewhere("F85", "run code while it is installed", (
        f"{_INSTALL}::test_nothing_that_was_downloaded_is_executed",
        "integration/test_sdists.py::test_a_hostile_build_gets_nothing")),
    Elsewhere("F86", "be an image that asks for root, volumes or other programs", (
        f"{_IMAGE}::test_modes_devices_and_set_uid", f"{_IMAGE}::test_how_it_wants_to_be_run",
        f"{_DOCKER}::test_what_the_image_wishes")),
    Elsewhere("F87", "change another's installed files",
              (f"{_INSTALL}::test_a_changed_file_stops_the_launch",)),
    Elsewhere("F88", "find a secret in arguments or files",
              (f"{_SECRETS}::test_private_files_are_private", f"{_SECRETS}::test_hunt")),
    Elsewhere("R1", "grant oneself what the workspace says", (
        "integration/test_permission.py::test_more_than_the_default_needs_an_approval",
        "integration/test_hostile_workspaces.py::test_a_hostile_workspace",
        "unit/kernel/test_expansion.py::test_what_is_not_listed_is_not_permitted",
        "unit/kernel/test_grants.py::test_secrets_outside_the_list_are_refused")),
    Elsewhere("R3", "share a file with another environment",
              ("unit/kernel/test_tree.py::test_what_no_plugin_may_hold",)),
    Elsewhere("R4", "write a file after it was committed",
              (f"{_STAGING}::test_descriptor_kept_by_the_writer_changes_nothing",)),
    Elsewhere("R4lie", "be the writer, and lie", (f"{_LYING}::test_a_lie_ends_the_run",)),
    Elsewhere("R6", "be the broker, and lie",
              ("integration/test_lying_broker.py::test_a_lie_ends_what_it_serves_at_once",)),
    Elsewhere("R7", "write into another's tables", (
        "faults/test_tables.py::test_another_owner_is_refused",
        "unit/kernel/test_grants.py::test_own_folders_are_never_granted")),
    Elsewhere("R9", "launder a descriptor of the user's",
              (f"{_JAIL}::test_descriptors_cannot_be_laundered",)),
    Elsewhere("R12", "keep root's group",
              ("sandbox/test_launch.py::test_groups_are_given_and_no_others",
               f"{_WALLS}::test_never_root")),
    Elsewhere("R13", "reach an address that only looks public", (
        f"{_NETWORK}::test_nothing_special_is_reached_unless_the_policy_permits_it",
        f"{_BROKER}::test_the_worst_reason_is_the_verdict")),
    Elsewhere("R14", "send everything to a host where anybody has an account", (
        f"{_BROKER}::test_another_server_name_reaches_nobody",
        f"{_NETWORK}::test_an_upload_ends_at_its_cap",
        "unit/kernel/test_network_policy.py::test_hosts_that_are_anybodys_are_flagged")),
    Elsewhere("R15", "import from elsewhere than the index and the workspace", (
        f"{_INSTALL}::test_an_address_among_the_dependencies_is_refused",
        f"{_INSTALL}::test_the_workspace_does_not_steer_the_installer",
        "unit/kernel/test_registry.py::test_outside_the_workspace_is_refused")),
    Elsewhere("R16", "flood the audit, or make it unwritable", (
        "unit/kernel/test_network_record.py::test_no_more_is_told_than_fits_into_the_audit",
        f"{_JAIL}::test_what_cannot_be_recorded_does_not_begin")),
    Elsewhere("R17", "print a secret in another form",
              ("unit/kernel/test_secret_values.py::test_every_form_is_redacted",)),
    Elsewhere("R18", "have documents grow while they are read", (
        "unit/kernel/test_document.py::test_laughs_are_refused_before_they_grow",
        "unit/kernel/test_document.py::test_bounds")),
    Elsewhere("R19", "plant files that others obey",
              (f"{_JAIL}::test_protected_files_stay_as_they_are",
               f"{_HANDED}::test_protected_paths_stay")),
    Elsewhere("R20", "steer the terminal of whoever approves", (
        f"{_SHOW}::test_nothing_controls_the_terminal", f"{_SHOW}::test_naughty_strings")),
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
    Elsewhere("CVE-2025-31133", "a path that is to be covered is exchanged for a link",
              (f"{_HANDED}::test_a_protected_path_that_is_not_itself_is_refused",
               f"{_HANDED}::test_protected_paths_stay")),
    Elsewhere("CVE-2024-42472", "a folder that was written before leads elsewhere the next time",
              (f"{_MOUNTS}::test_a_link_planted_in_a_writable_folder_is_refused",
               "unit/kernel/test_warehouse.py::test_a_link_planted_in_the_warehouse_is_not_followed")),
    Elsewhere("CVE-2026-34078", "a path that is to be shown is a link",
              ("unit/kernel/test_job.py::test_paths_are_relative_to_the_job_and_real",
               f"{_MOUNTS}::test_paths_are_plain")),
    Elsewhere("CVE-2024-32462", "a text is taken for an option",
              ("unit/sandbox/test_values.py::test_plans_end_each_field",
               f"{_LOCK}::test_a_reference_only_names_something_in_the_index")),
    Elsewhere("CVE-2026-41163", "bubblewrap is set-uid",
              ("unit/sandbox/test_values.py::test_bubblewrap_must_be_there_and_not_set_uid",)),
    Elsewhere("CVE-2017-5226", "input is typed into the terminal",
              (f"{_JAIL}::test_nothing_is_typed_into_a_terminal",
               f"{_PROBES}::test_refused_inside")),
    Elsewhere("CVE-2019-7303", "bits beyond the kernel's hide a request from the filter",
              ("unit/sandbox/test_seccomp.py::test_arguments", f"{_PROBES}::test_refused_inside")),
    Elsewhere("CVE-2023-1523", "text is pasted into a console",
              ("unit/sandbox/test_seccomp.py::test_arguments", f"{_PROBES}::test_refused_inside")),
    Elsewhere("CVE-2024-27297", "descriptors pass between processes by an abstract socket",
              (f"{_PROBES}::test_refused_inside",)),
    Elsewhere("CVE-2022-0492", "a release agent is written",
              (f"{_PROBES}::test_refused_inside",)),
    Elsewhere("CVE-2025-66479", "an empty list of hosts means every host",
              ("unit/sandbox/test_network.py::test_what_must_stand",)),
    Elsewhere("CVE-2026-49401", "another spelling of a name passes",
              ("unit/kernel/test_network.py::test_names",
               "unit/kernel/test_network.py::test_what_is_no_grant_is_refused_where_it_stands",
               f"{_NAMES}::test_a_name_that_is_none")),
)  # fmt: skip
