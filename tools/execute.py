"""Execute one notebook in a process of its own, and measure what it takes.

    python tools/execute.py SOURCE DESTINATION     prints the cost as JSON

The result depends on nothing but the notebook and the package: no timings and no version of this
machine's tools are recorded, so that executing twice gives the same bytes.
"""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from notebook_files import notebook_text, read_notebook, write_if_changed

CELL_TIMEOUT = 120  # seconds
# Without JUPYTER_PREFER_ENV_PATH, a kernel that the user has installed elsewhere could run.
KERNEL_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
NOWHERE = "http://127.0.0.1:9"  # no one listens there: every download fails at once
OFFLINE = {
    name: value
    for proxy in ("http_proxy", "https_proxy", "all_proxy")
    for name, value in ((proxy, NOWHERE), (proxy.upper(), NOWHERE))
} | {"no_proxy": "", "NO_PROXY": "", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Cost:
    """What executing a notebook took, the start of its kernel included."""

    seconds: float  # on the clock
    cpu_seconds: float  # on the processor, which doesn't depend on what else runs here
    peak_bytes: int  # the most memory that its largest process held


class ExecutionFailed(Exception):
    """A notebook did not run to its end; the message is what it printed on the way."""


def execute_apart(
    source: Path, destination: Path, environment: Mapping[str, str] | None = None
) -> Cost:
    """Execute the notebook `source` into `destination`, in a new process; return what it cost.

    The kernel runs in the folder of `source`, on one thread, with `environment` added. Raises
    `ExecutionFailed` when a cell does; then `destination` is not written.
    """
    command = [sys.executable, str(Path(__file__).resolve()), str(source), str(destination)]
    environment = {**os.environ, **KERNEL_ENVIRONMENT, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise ExecutionFailed(f"{source}:\n{done.stderr}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def execute(source: Path, destination: Path) -> Cost:
    """Execute `source` into `destination` with a kernel of this environment.

    To be called once in a process: the operating system counts all of its finished children.
    """
    notebook = normalise(read_notebook(source))
    nbformat.validate(notebook)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(source.resolve().parent)}},
    )
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    write_if_changed(destination, notebook_text(normalise(notebook)))
    return children_cost(seconds)


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Take out what differs between machines and runs, and give cells without an id a fixed one."""
    notebook.nbformat_minor = 5  # the first version whose cells have ids
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    for number, cell in enumerate(notebook.cells, start=1):
        if "id" not in cell:
            cell["id"] = hashlib.sha256(f"{number} {cell.source}".encode()).hexdigest()[:8]
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = smaller_png(output.data["image/png"])
    return notebook


def smaller_png(encoded: str) -> str:
    """A PNG in base64 with at most 256 colours, which is enough for drawings and half the size."""
    # Imported here: memory that this process holds counts as the kernel's when it starts one.
    from PIL import Image

    before = base64.b64decode(encoded)
    with Image.open(io.BytesIO(before)) as image:
        colours = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    after = io.BytesIO()
    colours.save(after, "png", optimize=True)
    if after.tell() >= len(before):
        return encoded
    return base64.b64encode(after.getvalue()).decode()


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join pieces of printed text that follow each other: where they are cut is chance."""
    merged: list[NotebookNode] = []
    for output in outputs:
        is_next_piece = merged and output.output_type == merged[-1].output_type == "stream"
        if is_next_piece and output.name == merged[-1].name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def children_cost(seconds: float) -> Cost:
    """The cost of the finished child processes of this process, and theirs."""
    import resource  # Unix only; on Windows the notebooks run in Jupyter all the same

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def main() -> int:
    """Execute one notebook; 1 and the failing cell on stderr when it does not run."""
    source, destination = (Path(argument) for argument in sys.argv[1:])
    try:
        cost = execute(source, destination)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(cost)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
