"""Pictures of text with exact truth, drawn from fonts and word lists: single words, scenes, pages. The same for a seed and a number everywhere."""
