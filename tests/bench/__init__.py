"""What the controller costs and how fast it is, beside what else one could write; figures: docs/benchmarks.md."""
