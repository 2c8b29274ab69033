"""The machine: processes, memory, locks and files that are never left half written."""
