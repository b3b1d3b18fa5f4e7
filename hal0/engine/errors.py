"""The engine's refusals that callers act on; everything else is a plain Hal0Error with an `engine.*` code.

    Hal0Error
    +-- PortTaken         the host port was busy when the container started: try another
    +-- NameTaken         a container of this name exists: take the next generation
    +-- ImageMissing      the image named by the spec is not in the store
    +-- ContainerMissing  no such container (any more)
    +-- HostRefused       this spec can never work here: a device, a mount or an argument is not there

The text in them is podman's own, cut to one line.
"""

from hal0.errors import Hal0Error


class PortTaken(Hal0Error):
    def __init__(self, port: int, detail: str) -> None:
        super().__init__("slot.port_taken", f"cannot publish port {port}: {detail}", details={"port": port})
        self.port = port


class NameTaken(Hal0Error):
    def __init__(self, name: str) -> None:
        super().__init__("engine.failed", f"cannot create container {name}: the name is in use")


class ImageMissing(Hal0Error):
    def __init__(self, image: str) -> None:
        super().__init__("image.missing", f"cannot start from image {image}: it is not in the image store")


class ContainerMissing(Hal0Error):
    def __init__(self, container: str) -> None:
        super().__init__("engine.failed", f"cannot find container {container}: it is gone")


class HostRefused(Hal0Error):
    def __init__(self, detail: str) -> None:
        super().__init__("engine.failed", f"cannot start the container on this host: {detail}")
