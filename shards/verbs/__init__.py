"""The verbs of `fm shards`, one module each; `shards.cli` has the table."""
