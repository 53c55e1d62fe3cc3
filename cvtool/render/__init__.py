"""Drawing with Pillow and numpy: what is known of a picture, shown on it. Nothing here imports torch or reads a model."""
