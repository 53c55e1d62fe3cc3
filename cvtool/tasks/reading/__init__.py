"""Reading pictures: regions of text found, brought upright, read, and put in order."""
