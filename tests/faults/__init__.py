"""Crashes, lost replies and other controllers, at every call."""
