"""Devices, precision, the pool of loaded models, and the one cheap way to import torchvision."""
