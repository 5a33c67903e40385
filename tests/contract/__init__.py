"""What AWS promises, tried on every engine that stands in for it."""
