"""Documents from far away by way of shards on the disk: the same documents, whatever happens."""

import itertools
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transformer_lessons.data.stream import TokenStream
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import read_documents
from transformer_lessons.support.fineweb import open_rows
from transformer_lessons.support.shards import ShardFolder, read_shard, write_shard
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer

os.environ["HF_DATASETS_OFFLINE"] = "1"  # read when `datasets` is imported, which is later

TEXTS = [f"Page {i}, with ü. " + "x" * (i * 37 % 101) for i in range(47)]


class Far:
    """A stream of rows that can be taken up again; counts how often it was opened and asked."""

    def __init__(self, texts=TEXTS, breaks_at=None):
        self.texts, self.breaks_at = texts, breaks_at
        self.n_opened, self.asked = 0, []

    def open(self):
        self.n_opened += 1
        self.place = 0
        return self

    def __iter__(self):
        while self.place < len(self.texts):
            if self.place == self.breaks_at:
                raise ConnectionError("the line is dead\nand more")
            self.asked.append(self.place)
            self.place += 1
            yield {"text": self.texts[self.place - 1], "id": self.place}

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


def shards_of(folder):
    return sorted(int(path.stem[-6:]) for path in folder.glob("shard-*.parquet"))


def n_bytes_of(folder):
    """The size of all shards, from which some may go while it is looked at."""
    n_bytes = 0
    for path in list(folder.glob("shard-*.parquet")):
        with suppress(FileNotFoundError):
            n_bytes += path.stat().st_size
    return n_bytes


@pytest.fixture
def fineweb(tmp_path):
    """Two parquet files with FineWeb's columns, in row groups of 6 rows."""
    folder = tmp_path / "far [b] test?"  # `datasets` takes "test" in a name for a split
    folder.mkdir()
    paths = []
    for number, texts in enumerate((TEXTS[:20], TEXTS[20:])):
        n = len(texts)
        others = ("id", "dump", "url", "date", "file_path", "language")
        columns = {"text": texts} | {name: [f"{name} {i}" for i in range(n)] for name in others}
        columns |= {"language_score": [0.9] * n, "token_count": list(range(n))}
        paths.append(folder / f"{number}.parquet")
        pq.write_table(pa.table(columns), paths[-1], row_group_size=6)
    return paths


# Reading one shard


def write_file(folder, n):
    """A parquet file of n documents in row groups of 4, with more columns, and the texts."""
    path, texts = folder / "part-0.parquet", TEXTS[:n]
    columns = {"text": texts, "id": list(range(n)), "file_path": ["../../etc/passwd"] * n}
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path, texts


def test_reading_begins_at_any_row(tmp_path):  # SPEC E8
    path, texts = write_file(tmp_path, 11)
    for start in range(14):
        assert list(read_shard(path, start)) == texts[start:]


def test_row_groups_before_the_start_are_not_read(tmp_path):  # SPEC E8
    path, texts = write_file(tmp_path, 12)
    group = pq.read_metadata(path).row_group(0)
    data = bytearray(path.read_bytes())
    for column in range(group.num_columns):
        chunk = group.column(column)
        begin = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
        data[begin : begin + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)
    assert list(read_shard(path, 4)) == texts[4:]
    with pytest.raises(LessonsError, match="can't read it beyond row 4"):
        list(read_shard(path, 3))


def test_memory_does_not_grow_with_a_shard(tmp_path):  # SPEC E8
    code = """
import sys, pyarrow as pa, pyarrow.parquet as pq
from transformer_lessons.support.shards import read_shard
schema = pa.schema([("text", pa.string())])
with pq.ParquetWriter("big.parquet", schema, compression="none") as file:
    for group in range(40):
        rows = [str(group * 500 + row) * 500 for row in range(500)]
        file.write_table(pa.table({"text": rows}))
del rows
before = pa.default_memory_pool().bytes_allocated()
pool = pa.proxy_memory_pool(pa.default_memory_pool())
pa.set_memory_pool(pool)
n = sum(len(text) for text in read_shard("big.parquet"))
print(n, pool.max_memory())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    n_characters, peak = map(int, done.stdout.split())
    assert n_characters > 40_000_000
    assert 0 < peak < 8_000_000


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"content": ["a"]}), r'0 columns "text"; columns: content \(.*bad.parquet'),
        (pa.table({"text": [1]}), r'the column "text" holds int64, not strings \(.*bad.parquet'),
        (pa.table({"text": ["a", None]}), r"^no text \(.*bad.parquet, row 2\)"),
        (
            pa.table({"text": pa.array([b"a", b"b\xff"]).view(pa.string())}),
            r"^not UTF-8: byte 1 \(.*bad.parquet, row 2\)",
        ),
    ],
)
def test_a_file_without_texts_is_refused_by_name(tmp_path, table, message):  # SPEC S9
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(LessonsError, match=message):
        list(read_shard(tmp_path / "bad.parquet"))


def test_a_damaged_file_is_refused_by_name(tmp_path):  # SPEC S9
    path, _ = write_file(tmp_path, 9)
    data = path.read_bytes()
    for damaged in (data[:-20], data[: len(data) // 2], data[:3], b"", b"PAR1" * 30):
        path.write_bytes(damaged)
        with pytest.raises(LessonsError, match=r"^not a whole parquet file.*part-0.*Get the file"):
            list(read_shard(path))


# The same documents


def test_documents_come_through_the_library_as_they_are(fineweb, tmp_path):  # SPEC E8
    cache = ShardFolder(tmp_path / "cache", "files", lambda: open_rows(fineweb), shard_size=10)
    assert list(cache.read(0)) == TEXTS
    for number in range(5):
        shard = list(read_shard(tmp_path / "cache" / f"shard-{number:06}.parquet"))
        assert shard == TEXTS[10 * number :][:10]
    assert [list(cache.read(start)) for start in range(50)] == [TEXTS[i:] for i in range(50)]


@pytest.mark.parametrize("start", [0, 6, 19, 20])
def test_the_library_goes_on_behind_any_shard(fineweb, tmp_path, start):  # SPEC E8
    """A new object for each shard: nothing is open, so the state in the facts has to do it."""
    read = []
    for number in range(47):
        cache = ShardFolder(tmp_path / "cache", "files", lambda: open_rows(fineweb), 1)
        read.append(next(cache.read(number)))
        if number == start:
            (tmp_path / "cache" / f"shard-{number:06}.parquet").unlink()
    assert read == TEXTS
    again = ShardFolder(tmp_path / "cache", "files", lambda: open_rows(fineweb), 1)
    assert next(again.read(start)) == TEXTS[start]


def test_a_shard_is_fetched_once_and_the_source_is_opened_once(tmp_path):  # SPEC E8
    far = Far()
    cache = ShardFolder(tmp_path / "c", "far", far.open, shard_size=10)
    assert list(cache.read(0)) == TEXTS
    assert list(cache.read(7)) == TEXTS[7:]
    assert list(ShardFolder(tmp_path / "c", "far", far.open, shard_size=10).read(3)) == TEXTS[3:]
    assert far.asked == list(range(47))
    assert far.n_opened == 1


def test_one_shard_is_fetched_ahead_and_no_more(tmp_path):
    far = Far()
    documents = ShardFolder(tmp_path / "c", "far", far.open, shard_size=10).read(0)
    assert far.asked == []
    assert list(itertools.islice(documents, 10)) == TEXTS[:10]
    documents.close()  # waits for the shard that is being fetched
    assert far.asked == list(range(20))


def test_a_first_shard_in_the_middle_passes_over_what_is_before(tmp_path):  # SPEC E8
    far = Far()
    assert list(ShardFolder(tmp_path / "c", "far", far.open, 10).read(25)) == TEXTS[25:]
    assert shards_of(tmp_path / "c") == [2, 3, 4]
    assert list(ShardFolder(tmp_path / "c", "far", far.open, 10).read(0)) == TEXTS


@pytest.mark.parametrize("n_texts", [0, 1, 9, 10, 11, 20])
def test_the_end_is_found_wherever_it_is(tmp_path, n_texts):
    far = Far(TEXTS[:n_texts])
    cache = ShardFolder(tmp_path / "c", "far", far.open, shard_size=10)
    for start in (0, 3, n_texts, n_texts + 1):
        assert list(cache.read(start)) == TEXTS[start:n_texts]
    n_asked = len(far.asked)
    files = files_of(tmp_path / "c")
    assert list(cache.read(n_texts + 25)) == []
    assert (len(far.asked), files_of(tmp_path / "c")) == (n_asked, files)


def test_a_place_behind_the_end_of_an_unknown_source_is_refused(tmp_path):
    cache = ShardFolder(tmp_path / "c", "far", Far().open, shard_size=10)
    with pytest.raises(LessonsError, match=r"^the source has no document 60 \(far\)"):
        list(cache.read(63))
    assert shards_of(tmp_path / "c") == []


# Little room


def test_shards_take_no_more_room_than_they_may(tmp_path):  # SPEC E8
    list(ShardFolder(tmp_path / "all", "far", Far().open, shard_size=5).read(0))
    facts = [ShardFolder(tmp_path / "all", "far", None, 5).facts(number) for number in range(10)]
    limit = int(2.5 * max(shard.n_bytes for shard in facts))
    assert sum(shard.n_bytes for shard in facts) > 3 * limit
    far = Far()
    cache = ShardFolder(tmp_path / "c", "far", far.open, shard_size=5, max_bytes=limit)
    for _ in range(2):
        for number, text in enumerate(cache.read(0)):
            assert text == TEXTS[number]
            assert n_bytes_of(tmp_path / "c") <= limit
            assert number // 5 in shards_of(tmp_path / "c")
    assert cache.known() == list(range(10))
    assert [cache.facts(number) for number in range(10)] == facts
    assert far.n_opened == 2  # shards in a row need no new start


def test_the_shards_read_longest_ago_go_first(tmp_path):  # SPEC E8
    cache = ShardFolder(tmp_path / "c", "far", Far().open, shard_size=5)
    for number in (3, 0, 1, 2, 0):
        cache.find(number)
    sizes = [cache.path(number).stat().st_size for number in range(4)]
    cache.make_room(10**9)  # without a limit there is always room
    for n_bytes, limit, left in [
        (0, sum(sizes), [0, 1, 2, 3]),
        (1, sum(sizes), [0, 1, 2]),
        (sizes[1] + sizes[2], sum(sizes[:3]), [0]),
    ]:
        cache.max_bytes = limit
        cache.make_room(n_bytes)
        assert shards_of(cache.folder) == left


def test_a_limit_below_one_shard_is_refused_and_deletes_nothing(tmp_path):  # SPEC S9
    cache = ShardFolder(tmp_path / "c", "far", Far().open, shard_size=10, max_bytes=900)
    with pytest.raises(LessonsError, match=r"^no room for a shard of 1?,?\d+ bytes within a limit"):
        list(cache.read(0))
    names = ("shard-1.parquet", "shard-000001.txt", "x.parquet", "shard-000001.parquet")
    *mine, ours = [tmp_path / "c" / name for name in names]
    for path in (*mine, ours):
        path.write_bytes(bytes(50))
    cache.max_bytes = 60
    with pytest.raises(LessonsError, match="no room for a shard of 61 bytes within a limit of 60"):
        cache.make_room(61)
    assert ours.exists()
    cache.make_room(60)
    assert not ours.exists()
    assert all(path.exists() for path in mine)


def test_a_stream_over_a_small_cache_resumes_exactly_twice(fineweb, tmp_path):  # SPEC E8
    """The whole way: `datasets`, shards that come and go, tokens, batches, and new starts."""

    def new(folder, state=None):
        cache = ShardFolder(folder, "files", lambda: open_rows(fineweb), 5, max_bytes=3_000)
        stream = TokenStream(cache, ByteTokenizer(), context_length=16, batch_size=4)
        if state:
            stream.load_state_dict(json.loads(json.dumps(state)))
        return stream

    whole = list(itertools.islice(new(tmp_path / "a"), 60))  # goes over the end of the source
    batches, state = [], None
    for n_batches, folder in ((13, "b"), (29, "b"), (18, "c")):  # at last on another machine
        stream = new(tmp_path / folder, state)
        for inputs, targets in itertools.islice(stream, n_batches):
            batches.append((inputs, targets))
            state = stream.state_dict()
        assert n_bytes_of(tmp_path / folder) <= 3_000
    pairs = zip(whole, batches, strict=True)
    assert all((a == c).all() and (b == d).all() for (a, b), (c, d) in pairs)


# What goes wrong


def test_a_source_that_has_changed_is_refused(tmp_path):  # SPEC E8
    list(ShardFolder(tmp_path / "c", "far", Far().open, shard_size=10).read(0))
    (tmp_path / "c" / f"shard-{2:06}.parquet").unlink()
    before = (tmp_path / "c" / "shard-000002.json").read_bytes()
    for texts in (
        [*TEXTS[:25], TEXTS[25] + "!", *TEXTS[26:]],
        [*TEXTS[:25], TEXTS[26], TEXTS[25], *TEXTS[27:]],
        TEXTS[:28],
    ):
        cache = ShardFolder(tmp_path / "c", "far", Far(texts).open, shard_size=10)
        with pytest.raises(LessonsError, match=r"^fetched again, .*shard-000002.*has changed"):
            list(cache.read(0))
        assert shards_of(tmp_path / "c") == [0, 1, 3, 4]
        assert (tmp_path / "c" / "shard-000002.json").read_bytes() == before
    assert list(ShardFolder(tmp_path / "c", "far", Far().open, 10).read(0)) == TEXTS


@pytest.mark.parametrize("breaks_at", [0, 14, 20, 46])
def test_a_broken_line_leaves_whole_shards_and_the_next_run_goes_on(tmp_path, breaks_at):
    far = Far(breaks_at=breaks_at)  # SPEC E8
    cache, read = ShardFolder(tmp_path / "c", "far", far.open, shard_size=10), []
    message = r"^can't read it: ConnectionError: the line is dead \(far\)\. Is there a network"
    for _ in range(2):  # the same object may try again
        with pytest.raises(LessonsError, match=message):
            read = list(cache.read(0))
    assert read == []
    n_whole = breaks_at // 10
    assert cache.known() == shards_of(tmp_path / "c") == list(range(n_whole))
    assert len(files_of(tmp_path / "c")) == 2 * n_whole + 1  # and source.json
    far.breaks_at, far.asked = None, []
    assert list(cache.read(0)) == TEXTS
    assert far.asked == list(range(10 * n_whole, 47))


def test_a_run_killed_between_a_shard_and_its_facts_goes_on(tmp_path):
    list(ShardFolder(tmp_path / "c", "far", Far().open, shard_size=10).read(0))
    for number in (3, 4):
        (tmp_path / "c" / f"shard-{number:06}.json").unlink()
    cache = ShardFolder(tmp_path / "c", "far", Far().open, 10)
    assert list(cache.read(0)) == TEXTS
    assert cache.known() == [0, 1, 2, 3, 4]


def test_shards_are_parquet_files_like_any_others(tmp_path):  # SPEC E8
    list(ShardFolder(tmp_path / "c", "far", Far().open, shard_size=10).read(0))
    files = sorted((tmp_path / "c").glob("*.parquet"))
    assert [document.text for document in read_documents(files)] == TEXTS


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: b"", lambda d: d[: len(d) // 2]]
)
def test_a_shard_of_another_size_is_refused(tmp_path, damage):  # SPEC S9
    list(ShardFolder(tmp_path / "c", "far", Far().open, shard_size=10).read(0))
    path = tmp_path / "c" / f"shard-{2:06}.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LessonsError, match=r"instead of .*shard-000002.parquet\)\. Delete it"):
        list(ShardFolder(tmp_path / "c", "far", Far().open, 10).read(0))
    path.unlink()
    assert list(ShardFolder(tmp_path / "c", "far", Far().open, 10).read(0)) == TEXTS


def test_a_flipped_bit_in_a_shard_is_never_read_as_text(tmp_path):  # SPEC S9
    with open(tmp_path / "a.parquet", "wb") as file:
        write_shard(iter(TEXTS), file)
    path, data = tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes()
    column = pq.read_metadata(path).row_group(0).column(0)
    n_refused, end = 0, column.dictionary_page_offset + column.total_compressed_size
    for place in range(column.dictionary_page_offset, end):
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        try:
            assert list(read_shard(path)) == TEXTS
        except LessonsError:
            n_refused += 1
    assert n_refused > 50


BAD_FACTS = {
    "a list": "[]",
    "no JSON": "{",
    "another key": '{"n_documents": 10, "n_bytes": 1, "sha256": "", "after": {}}',
    "a float": '{"n_documents": 10.0, "n_bytes": 1, "sha256": "", "behind": {}}',
    "a truth": '{"n_documents": true, "n_bytes": 1, "sha256": "", "behind": {}}',
    "a path": '{"n_documents": 10, "n_bytes": 1, "sha256": "", "behind": "../../etc/passwd"}',
    "a strange place": '{"n_documents": 10, "n_bytes": 1, "sha256": "", "behind": {"x": "../y"}}',
}


@pytest.mark.parametrize("facts", BAD_FACTS.values(), ids=BAD_FACTS)
def test_facts_of_anything_else_are_refused_and_nothing_outside_is_touched(
    fineweb, tmp_path, facts
):
    def new():  # SPEC S9
        return ShardFolder(tmp_path / "a" / "c", "f", lambda: open_rows(fineweb), 10)

    list(new().read(0))
    (tmp_path / "a" / "c" / "shard-000001.json").write_text(facts)
    (tmp_path / "a" / "c" / "shard-000002.parquet").unlink()  # fetched from those facts
    for path in (tmp_path / "x", tmp_path / "a" / "x"):
        path.write_text("mine")
    with pytest.raises(LessonsError):
        list(new().read(20))
    with pytest.raises(LessonsError, match=r"shard-000001"):
        list(new().read(0))
    assert files_of(tmp_path) == ["a", "far [b] test?", "x"]
    assert files_of(tmp_path / "a") == ["c", "x"]
    assert {path.read_text() for path in (tmp_path / "x", tmp_path / "a" / "x")} == {"mine"}


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (None, r"^not a folder of shards \("),
        ("[]", r"^not a JSON object .*source.json"),
        ('{"format": "x", "name": "far", "shard_size": 10}', r"^it holds shards of .* \(x\), not"),
        ('{"format": "transformer_lessons/shards-1", "name": "far"}', "^shard_size is missing"),
    ],
)
def test_a_folder_of_anything_else_is_refused(tmp_path, claim, message):  # SPEC S9
    (tmp_path / "shard-000000.parquet").write_text("mine")
    if claim:
        (tmp_path / "source.json").write_text(claim)
    before = files_of(tmp_path)
    with pytest.raises(LessonsError, match=message):
        ShardFolder(tmp_path, "far", Far().open, 10)
    assert files_of(tmp_path) == before


def test_a_folder_belongs_to_one_source_and_one_size(tmp_path):  # SPEC E8
    ShardFolder(tmp_path, "far", Far().open, shard_size=10)
    for name, size in (("other", 10), ("far", 11)):
        with pytest.raises(
            LessonsError, match=r"^it holds shards of 10 documents from far .*, not of"
        ):
            ShardFolder(tmp_path, name, Far().open, size)
    (tmp_path / "file").write_text("")
    with pytest.raises(LessonsError, match=r"^can't make the folder: .*Choose a new"):
        ShardFolder(tmp_path / "file" / "c", "far", Far().open)


def test_a_full_disk_ends_with_a_remedy_and_leaves_no_half_shard(tmp_path):  # SPEC S9
    code = """
import resource, signal
from pathlib import Path
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.shards import ShardFolder
class Far(list):
    def state_dict(self): return {}
rows = Far({"text": str(i ** 99)} for i in range(4000))
cache = ShardFolder(Path("c"), "far", lambda: rows, shard_size=4000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # no file may be larger
try:
    list(cache.read(0))
except LessonsError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert re.search(r"^can't write it: .+ \(c/shard-000000.parquet\)\. Free space", done.stdout)
    assert files_of(tmp_path / "c") == ["source.json"]


# The library `datasets`


def test_a_missing_library_is_named(monkeypatch):  # SPEC E8
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LessonsError, match=r"needs the library datasets\. .* pip install datasets"):
        open_rows()


def test_fineweb_is_asked_for_by_its_name(monkeypatch):  # SPEC E8
    asked_for = []

    class Datasets:
        def load_dataset(*arguments, **options):
            asked_for.append((arguments, options))
            return Datasets

        def reshard():
            return "the stream"

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    assert open_rows() == "the stream"
    options = {"name": "sample-10BT", "split": "train", "streaming": True}
    assert asked_for == [(("HuggingFaceFW/fineweb",), options)]


def test_without_a_network_fineweb_says_so():  # SPEC S9
    assert pytest.importorskip("datasets").config.HF_HUB_OFFLINE
    with pytest.raises(LessonsError, match=r"^can't read it: .*HuggingFaceFW/fineweb.*a network"):
        open_rows()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), r"^can't read it: Arrow.*parquet"),
        (lambda path: path.unlink(), r"^can't read it: .*parquet"),
        (
            lambda path: pq.write_table(pa.table({"content": ["a"], "id": ["b"]}), path),
            r'^a row without a "text" that is a string; it has: content, id',
        ),
    ],
)
def test_a_file_that_cannot_be_streamed_is_refused(fineweb, tmp_path, damage, message):  # SPEC S9
    damage(fineweb[0])
    cache = ShardFolder(tmp_path / "c", f"{fineweb[0]}", lambda: open_rows(fineweb[:1]), 10)
    with pytest.raises(LessonsError, match=message):
        list(cache.read(0))
    assert files_of(Path(tmp_path / "c")) == ["source.json"]
