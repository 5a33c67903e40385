"""The commands: exit codes, what people see, what scripts read."""
