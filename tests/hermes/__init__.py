"""The chat service's TypeScript against a local AWS and a real controller."""
