"""Data sets: what is read (`inputs`, `formats`), checked (`check`) and fed to training (`dataset`, `augment`, `loader`, `synth`)."""
