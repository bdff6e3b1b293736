"""What tests of commands share: to run one in this process, because to start one takes seconds."""

from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper

import pytest

from transformer_lessons.cli.main import main


@dataclass(frozen=True)
class Done:
    """What a command that has ended left: as `subprocess.run` reports it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def run_here():
    """Runs a command in this process, in the folder `cwd`."""

    def run(*arguments, cwd):
        streams = [TextIOWrapper(BytesIO(), "utf-8", newline="\n") for _ in range(2)]
        with chdir(cwd), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            try:
                code = main(list(map(str, arguments)))
            except SystemExit as error:  # how tyro ends after --help, or an unknown option
                code = error.code
        texts = []
        for stream in streams:
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        return Done(code or 0, *texts)

    return run
