"""The command lines, above the adapters."""
