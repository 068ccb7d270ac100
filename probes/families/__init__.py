"""What protocols do: one module a family, each with `run(job) -> Outcome`."""
