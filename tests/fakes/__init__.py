"""Stateful stand-ins for what the controller talks to."""
