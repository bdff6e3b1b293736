"""A cache of shards: the documents of a source far away, of which a part is on the disk.

A shard that is needed and not there is fetched. When there is no room, those read longest ago are
deleted. What stays of each is a small file of facts: how many documents it has, their hash, and
where the source goes on behind them. So a deleted shard can be fetched again, and is the same or
refused.

Several processes may read from one folder, since a file appears when it is whole.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from transformer_lessons.data.row_streams import RowStream, named_errors, texts_of
from transformer_lessons.data.shard_files import (
    ShardFacts,
    check_same,
    check_size,
    claim_folder,
    facts_path,
    known_shards,
    make_room,
    read_claim,
    read_facts,
    shard_path,
    write_shard,
)
from transformer_lessons.data.shards import read_texts
from transformer_lessons.data.token_files import written_whole
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import replace_file

SHARD_SIZE = 5_000  # documents; of FineWeb, about 15 million bytes of text


class ShardCache:
    """The documents of a source far away, by way of the shards in `folder`.

    `open_stream` opens the source at its first row; without it, the folder is all there is. The
    shards take `max_bytes` of the disk at most, and one more while it is fetched.
    """

    def __init__(
        self,
        folder: Path | str,
        name: str,
        open_stream: Callable[[], RowStream] | None = None,
        shard_size: int = SHARD_SIZE,
        max_bytes: int | None = None,
    ) -> None:
        self.folder, self.name, self.open_stream = Path(folder), name, open_stream
        self.shard_size, self.max_bytes = shard_size, max_bytes
        self.texts: Iterator[str] = iter(())  # of the open stream
        self.next_shard = -1  # the one that the open stream stands in front of
        self.in_use: list[Path] = []  # being read, so not deleted
        claim_folder(self.folder, name, shard_size)

    def read(self, start: int) -> Iterator[str]:
        """The texts of the documents from number `start` on."""
        number, row = divmod(start, self.shard_size)
        while path := self.find(number):
            self.in_use.append(path)
            try:
                yield from read_texts(path, row)
            finally:
                self.in_use.remove(path)
            number, row = number + 1, 0

    def find(self, number: int) -> Path | None:
        """The file of shard `number`, fetched if it isn't there; None behind the last shard."""
        path, facts = shard_path(self.folder, number), read_facts(self.folder, number)
        if facts is None and self.is_behind_last(number):
            return None
        if facts is None or not path.exists():
            facts = self.fetch(number)
        check_size(path, facts.n_bytes)
        now = time.time_ns()
        with suppress(OSError):  # in a folder that is not ours to write, nothing is deleted
            os.utime(path, ns=(now, now))
        return path

    def is_behind_last(self, number: int) -> bool:
        """Whether the source is known to have no shard `number`; a shard that isn't full is last.

        Without a source, the last shard in the folder is the last.
        """
        last = max(known_shards(self.folder), default=-1)
        if self.open_stream is None:
            return number > last
        return number > last >= 0 and read_facts(self.folder, last).n_documents < self.shard_size

    def fetch(self, number: int) -> ShardFacts:
        """Fetch shard `number`: the same documents as the last time, or `LessonsError`."""
        path, before = shard_path(self.folder, number), read_facts(self.folder, number)
        if number != self.next_shard:
            self.go_to(number)
        self.next_shard = -1  # until the shard is written
        with written_whole(path) as file:
            n_documents, sha256 = write_shard(islice(self.texts, self.shard_size), file)
            facts = ShardFacts(n_documents, file.tell(), sha256, self.stream.state_dict())
            check_same(path, before, facts)
            make_room(self.folder, facts.n_bytes, self.max_bytes, self.in_use)
        replace_file(facts_path(self.folder, number), json.dumps(asdict(facts)) + "\n")
        self.next_shard = number + 1
        return facts

    def go_to(self, number: int) -> None:
        """Open the source, go to the known place nearest to shard `number`, pass over the rest."""
        if self.open_stream is None:
            remedy = "Fetch it again from where it came from."
            where = str(shard_path(self.folder, number))
            raise LessonsError("the shard is not here", where=where, remedy=remedy)
        start = 1 + max((k for k in known_shards(self.folder) if k < number), default=-1)
        with named_errors(self.name):
            self.stream = self.open_stream()
            if start > 0:
                self.stream.load_state_dict(read_facts(self.folder, start - 1).behind)
        self.texts = texts_of(self.stream, self.name)
        n_between = (number - start) * self.shard_size
        if sum(1 for _ in islice(self.texts, n_between)) < n_between:
            what = f"the source has no document {number * self.shard_size:,}"
            raise LessonsError(what, where=self.name, remedy="Use a state of this very source.")


def open_folder(folder: Path | str) -> ShardCache:
    """The shards that are in `folder`, without the source that they came from."""
    facts = read_claim(Path(folder))
    return ShardCache(folder, facts["name"], None, facts["shard_size"])
