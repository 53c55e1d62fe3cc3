"""Greet pictures: `cvtool hello a.jpg b.jpg`."""

from typing import Annotated

import typer


def hello(pictures: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Whom to greet.")]) -> None:
    """Greet pictures, each with its size."""
    from cvtool import images  # what is slow is imported when it is needed, so that --help stays quick

    for picture in pictures:
        print("hello {}, you are {} wide and {} high".format(picture, *images.size(picture)))
