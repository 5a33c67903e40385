"""The tests. A package, so that `from tests.fakes.clock import FakeClock` means this folder and no other."""
