"""The live display, driven in a real terminal of 80 by 24 characters."""

import os
import shlex
import shutil
import subprocess
import sys
import time

import pytest


@pytest.fixture
def terminal(tmp_path):
    """Runs a command in tmux and returns what its screen shows when `until` appears."""
    if shutil.which("tmux") is None:
        remedy = "tmux is not installed: apt-get install tmux, or brew install tmux"
        pytest.fail(remedy) if os.environ.get("CI") else pytest.skip(remedy)
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def show(command: str, until: str, seconds: float = 60) -> tuple[str, list[str]]:
        line = f"{command}; sleep 120"
        subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", line], check=True)
        screens = []
        for _ in range(int(seconds / 0.1)):
            done = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True)
            screens.append(done.stdout)
            if until in done.stdout:
                return done.stdout, screens
            time.sleep(0.1)
        pytest.fail(f"{until!r} never appeared. The last screen:\n{screens[-1]}")

    yield show
    subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


def test_the_demo_shows_a_model_learning(terminal):  # SPEC F9 F10
    command = f"OMP_NUM_THREADS=1 {shlex.quote(sys.executable)} -m transformer_lessons demo"
    final, screens = terminal(command, until="ababababababababababababababababababababab…")
    watched = [screen for screen in screens if "it writes" in screen]
    assert len(watched) >= 3  # it was live: seen changing
    assert len(set(watched)) >= 3
    assert any("knows nothing" in screen and "tokens/s" in screen for screen in watched)
    assert all(len(line) <= 80 for screen in watched for line in screen.splitlines())
    assert "100.00%" in final or "99." in final
