"""SuperLinks: all SuperLinks of a server, each of which has the nodes of its place.

    register of devices -> for each SuperLink the nodes that are to be there: missing ones registered, others removed

All of them take the number of a node as the register has it, see `palate_server.folder.places`.
"""

from __future__ import annotations

from collections.abc import Iterator

from palate_server.flower.superlink_state import LinkControl
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.places import place_of, split
from palate_server.folder.server_folder import Site


class SuperLinks:
    """Controls all SuperLinks of a server folder.

    Args:
        site: the server folder.

    Raises:
        PalateError: from each method, if a SuperLink doesn't answer or refuses.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._controls = [LinkControl(site, place) for place in range(site.config.gateway.superlinks)]

    @property
    def first(self) -> LinkControl:
        """The SuperLink whose task the ServerApp is."""
        return self._controls[0]

    def register(self, node_key: str) -> int:
        """Register the public key of a node at its SuperLink, if it isn't yet; returns the node's number."""
        return self._controls[place_of(node_key, len(self._controls))].register(node_key)

    def unregister(self, node: int) -> None:
        """Remove a node's access, unless its SuperLink is one that is no more."""
        place, _ = split(node)
        if place < len(self._controls):
            self._controls[place].unregister(node)

    def remove(self, node_key: str) -> None:
        """Remove the access of the node with this public key, if it has any."""
        control = self._controls[place_of(node_key, len(self._controls))]
        if (node := control.nodes().get(node_key)) is not None:
            control.unregister(node)

    def reconcile(self) -> None:
        """Register exactly the nodes of the register, each at its place.

        A SuperLink's database may be new or older, and the number of SuperLinks another than before.
        """
        there = [control.nodes() for control in self._controls]
        with Enrolments(self._site.enrolment_file) as register:
            for device in register.devices():
                if device.revoked is not None:
                    continue
                place = place_of(device.node_key, len(there))
                node = there[place].pop(device.node_key, None)
                if node is None:
                    node = self._controls[place].register(device.node_key)
                if node != device.node:
                    register.registered(device.number, node)
        for node in _numbers(there):
            self.unregister(node)


def _numbers(there: list[dict[str, int]]) -> Iterator[int]:
    for nodes in there:
        yield from nodes.values()


def remove_former(site: Site) -> None:
    """Delete the databases of SuperLinks that are no more, and make the folder for those that are."""
    kept = set(site.superlink_files)
    if len(kept) > 1:
        site.superlinks.mkdir(exist_ok=True, mode=0o700)
    if not site.superlinks.is_dir():
        return
    for file in site.superlinks.iterdir():
        if file.with_name(file.name.partition("-")[0]) not in kept:
            file.unlink()
    if len(kept) == 1:
        site.superlinks.rmdir()
