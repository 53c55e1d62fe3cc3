"""A dictionary as a tree: what may follow is what some word has there."""

from hypothesis import given
from hypothesis import strategies as st

from cvtool.ops.prefix_tree import LOST, Tree


@given(st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=12), st.lists(st.integers(0, 3), max_size=5))
def test_what_may_follow_is_what_some_word_has_there(words, beginning):
    tree = Tree(words)
    node = tree.root
    for label in beginning:
        node = tree.child(node, label)
    expected = {word[len(beginning)] for word in words if word[: len(beginning)] == beginning and len(word) > len(beginning)}
    begun = beginning == [] or any(word[: len(beginning)] == beginning for word in words)
    assert (node != LOST) == begun
    assert tree.masks([tree.root, node], 4)[1].nonzero()[:, 0].tolist() == sorted(expected)
