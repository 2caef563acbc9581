from collections.abc import Sequence

HARDWARE: bool

def crc32c(data: bytes | bytearray | memoryview) -> int: ...

class Records:
    count: int
    def __init__(self, header: int, limit: int) -> None: ...
    @property
    def size(self) -> int: ...
    def append(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Sequence[tuple[str, bytes | None]]] | None,
        begin: int,
        later: int,
    ) -> int: ...
    def taken(self) -> bytearray: ...
