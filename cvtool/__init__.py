"""cvtool: one command-line toolkit for deep computer vision.

The package is a house of rooms; a room imports only from the rooms to its right:

    cli -> tasks -> train, render, data, metrics -> models, sources -> losses -> layers -> ops
        -> runtime, weights, registry, images, batch, records, results, categories -> errors

`cvtool/models/<verb>/<name>.py` is the system that `cvtool <verb> --model <name>` runs.
"""

__version__ = "0.1.0"
