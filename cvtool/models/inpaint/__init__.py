"""Models that fill holes in pictures.

    fill(images, masks, seed=0, **options) -> filled

images: B 3 H W float in [0, 1]; masks: B 1 H W bool, True = hole; filled: B 3 H W in [0, 1]. Under the hole `images` is 0, and what a model says
outside of it is not looked at: whoever calls composes. A model hands out numbers (no normalised ones: mean and std of its `prepare` are its own
affair) and fills picture i by (images[i], masks[i], seed, options) alone, in eval mode, whatever else is in the batch. A model to which nothing is
left to chance has no `seed`, and one whose options can be told at the command line names them in its signature; lines that shall be in the hole are
`guidance`, B 1 H W bool.

What it can be shown stands in its `prepare`: with `resize=None` pictures of any size whose sides are multiples of `multiple_of`; with "stretch" or
"crop" squares of `size`, which are cut around each hole with its surroundings. Pictures larger than a model can take come in windows.
"""
