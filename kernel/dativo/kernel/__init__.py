"""The kernel: registry, policy, job, plan, run, ledger, secrets, audit, report, command line."""
