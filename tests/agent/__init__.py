"""The agent: real git, real signals, real processes."""
