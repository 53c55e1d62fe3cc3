"""How long cvtool takes to begin, as ratios of `python -c "import torch"` measured in the same rounds.

    python tests/benchmarks/startup.py [ROUNDS]

CPU seconds (user + system) of whole processes, all commands in turn, the least of all rounds (others' work on the machine only adds). The goals:
--help and argument errors 1/10, `models list` 1/6, importing what detection needs 1.3.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DETECTION = "import cvtool.tasks.detect, cvtool.models.detect.faster_rcnn"
COMMANDS: list[tuple[str, list[str], float | None]] = [
    ("python -c 'import torch'", ["-c", "import torch"], None),
    ("python -c pass", ["-c", "pass"], None),
    ("cvtool --version", ["-m", "cvtool", "--version"], 1 / 10),
    ("cvtool --help", ["-m", "cvtool", "--help"], 1 / 10),
    ("cvtool detect --help", ["-m", "cvtool", "detect", "--help"], 1 / 10),
    ("cvtool detct (unknown verb)", ["-m", "cvtool", "detct"], 1 / 10),
    ("cvtool detect --nonsense", ["-m", "cvtool", "detect", "--nonsense"], 1 / 10),
    ("cvtool detect a.jpg --conf lots", ["-m", "cvtool", "detect", "a.jpg", "--conf", "lots"], 1 / 10),
    ("cvtool detect a.jpg -m fster-rcnn", ["-m", "cvtool", "detect", "a.jpg", "-m", "fster-rcnn"], 1 / 10),
    ("cvtool models list", ["-m", "cvtool", "models", "list"], 1 / 6),
    ("importing the detection path", ["-c", DETECTION], 1.3),
]


def cpu_seconds(words: list[str]) -> float:
    """CPU time of one python process."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(rounds: int = 5) -> int:
    """Print the table; returns 1 where a goal is missed."""
    for _, words, _ in COMMANDS:  # byte code and file caches
        cpu_seconds(words)
    least = {name: float("inf") for name, _, _ in COMMANDS}
    for _ in range(rounds):
        for name, words, _ in COMMANDS:
            least[name] = min(least[name], cpu_seconds(words))
    unit = least[COMMANDS[0][0]]
    missed = 0
    print(f"{'command':36} {'CPU s':>7} {'ratio':>7} {'goal':>7}")
    for name, _, goal in COMMANDS:
        ratio = least[name] / unit
        late = goal is not None and ratio > goal
        missed += late
        print(f"{name:36} {least[name]:7.3f} {ratio:7.3f} {goal or 0:7.3f} {'MISSED' if late else ''}".replace(f" {0:7.3f}", " " * 8))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
