"""Viola-Jones against OpenCV's C++ of the same cascade on the same picture, one thread each, in one process.

    python tests/benchmarks/viola_jones.py                                   # the installed LBP cascade on `astronaut` (512 x 512)
    python tests/benchmarks/viola_jones.py haarcascades/*.xml --image a.jpg  # others

Prints the best of several turns of both, the ratio (aim: at most 20), and the boxes of both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cvtool.models.detect import viola_jones as vj


def best_of(turns: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest turn, and what it gave."""
    fastest, answer = float("inf"), None
    for _ in range(turns):
        start = time.perf_counter()
        answer = work()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest, answer


def opencv(path: Path) -> Any:
    """OpenCV's classifier; it refuses the misspelt tag of the file that scikit-image installs."""
    storage = cv2.FileStorage(path.read_text().replace("featuhreParams", "featureParams"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    made = cv2.CascadeClassifier()
    return made if made.read(storage.getFirstTopLevelNode()) else cv2.CascadeClassifier(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cascades", nargs="*", type=Path, default=[vj.installed_cascade()])
    parser.add_argument("--image", type=Path, default=vj.installed_cascade().parent / "astronaut.png")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    image = vj.grey(np.asarray(Image.open(given.image).convert("RGB")).transpose(2, 0, 1))
    print(f"{given.image.name}, {image.shape[1]} x {image.shape[0]}, scale 1.1, 3 neighbours")
    for path in given.cascades:
        theirs = opencv(path)
        seconds, expected = best_of(given.turns, lambda theirs=theirs: theirs.detectMultiScale(image, 1.1, 3))
        print(f"{path.name}: OpenCV {seconds * 1000:.0f} ms {np.reshape(expected, (-1, 4)).tolist()}")
        for pyramid in ("picture", "filters"):
            model = vj.build(pyramid=pyramid)
            model.read_weights(path)
            own, (boxes, _) = best_of(given.turns, lambda model=model: vj.group(model.windows(image), 3))
            boxes[:, 2:] -= boxes[:, :2]
            print(f"  {pyramid}: {own * 1000:.0f} ms, {own / seconds:.1f} times {boxes.tolist()}")


if __name__ == "__main__":
    main()
