"""What a probe keeps of a long video: every so many chunks, fewer the longer it is, and always the last one."""

from __future__ import annotations

from typing import Generic, TypeVar

Row = TypeVar("Row")


class Thinned(Generic[Row]):
    """Rows of chunks. every: keep each so-manieth chunk; most: chunks kept at a time, beyond which every second one goes.

    Chunks come in order. At most most + 1 are held: those kept, and the newest.
    """

    def __init__(self, every: int, most: int) -> None:
        self.every, self.most = every, most
        self.chunks: dict[int, list[Row]] = {}

    def add(self, chunk: int, row: Row) -> None:
        if chunk not in self.chunks:
            while True:
                self.chunks = {k: rows for k, rows in self.chunks.items() if k % self.every == 0}
                if len(self.chunks) <= self.most:
                    break
                self.every *= 2
            self.chunks[chunk] = []
        self.chunks[chunk].append(row)

    def rows(self) -> list[Row]:
        """Of all chunks kept, in order."""
        return [row for rows in self.chunks.values() for row in rows]
