"""First-party plugins, each with its plugin.yaml. Started by the kernel as processes, never imported by it."""
