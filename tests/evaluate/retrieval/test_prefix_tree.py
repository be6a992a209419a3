"""The prefix tree holds every sentence once, shares beginnings, and sums along paths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.evaluate.retrieval.prefix_tree import PrefixTree, build_prefix_tree

sentence_lists = st.lists(st.lists(st.integers(1, 4), max_size=6), min_size=1, max_size=12)


def path(tree: PrefixTree, sentence: int) -> list[int]:
    """Edges of a sentence from the root, found by walking back from its END edge."""
    edges = [int(tree.sentence_edges[sentence])]
    while (before := int(tree.edge_before[edges[-1]])) >= 0:
        edges.append(before)
    return edges[::-1]


@given(sentence_lists)
def test_every_path_spells_its_sentence(sentences: list[list[int]]) -> None:
    tree = build_prefix_tree(sentences)
    for number, sentence in enumerate(sentences):
        edges = path(tree, number)
        assert tree.edge_targets[edges].tolist() == [*sentence, BOUNDARY_ID]
        nodes = tree.edge_nodes[edges]
        assert tree.node_words[nodes].tolist() == [BOUNDARY_ID, *sentence]
        assert tree.node_parents[nodes].tolist() == [-1, *nodes[:-1].tolist()]


@given(sentence_lists)
def test_every_beginning_is_there_once(sentences: list[list[int]]) -> None:
    tree = build_prefix_tree(sentences)
    beginnings = {tuple(sentence[:t]) for sentence in sentences for t in range(len(sentence) + 1)}
    assert len(tree.node_words) == len(beginnings)
    pairs = list(zip(tree.edge_nodes.tolist(), tree.edge_targets.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert tree.edge_nodes.tolist() == sorted(tree.edge_nodes.tolist())
    assert tree.tokens == sum(len(sentence) + 1 for sentence in sentences)
    for level, (start, stop) in enumerate(zip(tree.node_levels[:-1], tree.node_levels[1:], strict=True)):
        assert stop - start == len({beginning for beginning in beginnings if len(beginning) == level})


@given(sentence_lists)
def test_sums_run_along_the_path(sentences: list[list[int]]) -> None:
    tree = build_prefix_tree(sentences)
    values = np.random.default_rng(0).random(len(tree.edge_nodes)).astype(np.float32)
    expected = [values[path(tree, number)].astype(np.float64).sum() for number in range(len(sentences))]
    np.testing.assert_allclose(tree.sentence_sums(values), expected, rtol=1e-12)


@given(sentence_lists, st.data())
def test_paths_are_the_edges_of_some_sentences(sentences: list[list[int]], data: st.DataObject) -> None:
    tree = build_prefix_tree(sentences)
    some = data.draw(st.lists(st.integers(0, len(sentences) - 1)))
    expected = sorted({edge for number in some for edge in path(tree, number)})
    assert tree.paths(np.array(some, dtype=np.int64)).tolist() == expected


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one"):
        build_prefix_tree([])
    with pytest.raises(ValueError, match="boundary"):
        build_prefix_tree([[2, BOUNDARY_ID, 3]])
