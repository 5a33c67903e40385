"""Private IPv4 addresses for tasks: loopback ones, so that a process on this machine can listen on each."""

from __future__ import annotations

import heapq
import ipaddress

__all__ = ["AddressPool"]


class AddressPool:
    """Hands out the lowest free address of a network, so a returned one is soon somebody else's, as in a VPC."""

    def __init__(self, network: str = "127.1.0.0/16") -> None:
        self._network = ipaddress.IPv4Network(network)
        if not self._network.is_loopback:
            raise ValueError(f"{network} is not a loopback network")
        self._next = 1
        self._free: list[int] = []

    def take(self) -> str | None:
        """Return an address that nobody has, None when all are taken."""
        if self._free:
            return str(self._network[heapq.heappop(self._free)])
        # The last address of a network is its broadcast address; nobody can listen on it.
        if self._next >= self._network.num_addresses - 1:
            return None
        self._next += 1
        return str(self._network[self._next - 1])

    def give_back(self, address: str) -> None:
        """Make an address free for the next task."""
        heapq.heappush(self._free, int(ipaddress.IPv4Address(address)) - int(self._network.network_address))
