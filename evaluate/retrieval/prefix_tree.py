"""The prefix tree of a set of sentences, by which common prefixes are scored only once.

The 5,000 test sentences of Flickr8k have 59,208 words and END signs but only 40,043 different prefixes. A state of the
language half of m-RNN depends on a prefix, not on a sentence, so retrieval works on the nodes of this tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrnn.data.vocabulary import BOUNDARY_ID


@dataclass(frozen=True)
class PrefixTree:
    """Nodes are distinct prefixes; edges are the words (or END) that follow them. Both are numbered level by level.

    Node 0 is the empty prefix: the network has read START. Every other node is reached by exactly one edge. An edge
    whose target is END leads to no node: a sentence is complete there. Equal sentences share the whole path.

    node_words : (N,) int64, last word of each prefix; BOUNDARY_ID at node 0.
    node_parents : (N,) int64, the prefix without its last word; -1 at node 0.
    node_levels : (L+1,) int64, nodes node_levels[t] .. node_levels[t+1]-1 are prefixes of t words.
    edge_nodes : (E,) int64, the node that each edge leaves; non-decreasing.
    edge_targets : (E,) int64, the word to predict there, BOUNDARY_ID for END. No pair of node and target occurs twice.
    edge_before : (E,) int64, the edge that leads to edge_nodes; -1 for edges that leave node 0.
    edge_levels : (L+1,) int64, edges edge_levels[t] .. edge_levels[t+1]-1 leave nodes of level t.
    sentence_edges : (S,) int64, the END edge of each sentence.
    tokens : number of words and END signs of all sentences, without sharing.
    """

    node_words: np.ndarray
    node_parents: np.ndarray
    node_levels: np.ndarray
    edge_nodes: np.ndarray
    edge_targets: np.ndarray
    edge_before: np.ndarray
    edge_levels: np.ndarray
    sentence_edges: np.ndarray
    tokens: int

    def sentence_sums(self, edge_values: np.ndarray) -> np.ndarray:
        """Sum over the path of each sentence: (E,) values of edges -> (S,) float64."""
        sums = edge_values.astype(np.float64)
        # One vectorised addition per level; the edges of the level before already hold sums of whole paths.
        for start, stop in zip(self.edge_levels[1:-1], self.edge_levels[2:], strict=True):
            sums[start:stop] += sums[self.edge_before[start:stop]]
        return sums[self.sentence_edges]

    def paths(self, sentences: np.ndarray) -> np.ndarray:
        """The distinct edges on the paths of some sentences, given by number, in increasing order."""
        # All paths are followed towards node 0 at once; a path ends where another one has passed already.
        passed = np.zeros(len(self.edge_nodes), dtype=bool)
        edges = self.sentence_edges[sentences]
        while len(edges):
            passed[edges] = True
            edges = self.edge_before[edges]
            edges = edges[edges >= 0]
            edges = edges[~passed[edges]]
        return np.flatnonzero(passed)


def build_prefix_tree(sentences: Sequence[Sequence[int] | np.ndarray]) -> PrefixTree:
    """The tree of sentences given as word numbers without START and END; an empty sentence is START END.

    Raises ValueError if there is no sentence, or if a sentence contains the boundary sign.
    """
    if not len(sentences):
        raise ValueError("a prefix tree needs at least one sentence")
    lengths = np.array([len(sentence) for sentence in sentences])
    table = np.full((len(sentences), int(lengths.max()) + 1), BOUNDARY_ID, dtype=np.int64)
    for row, sentence in zip(table, sentences, strict=True):
        row[: len(sentence)] = sentence
    if (table == BOUNDARY_ID).sum() != (table.shape[1] - lengths).sum():
        raise ValueError("a sentence must not hold the boundary sign")

    node_words, node_parents, node_levels = [np.array([BOUNDARY_ID])], [np.array([-1])], [0, 1]
    edge_nodes, edge_targets, edge_before, edge_levels = [], [], [], [0]
    sentence_edges = np.empty(len(sentences), dtype=np.int64)
    at_node = np.zeros(len(sentences), dtype=np.int64)  # node of each sentence that has not ended
    node_edge = np.array([-1])  # the edge that leads to each node of the current level
    going = np.arange(len(sentences))
    width = int(table.max()) + 1
    for level in range(table.shape[1]):
        # One integer per (node, next word), so that np.unique finds the distinct edges of the level. It sorts them,
        # which numbers edges by node and the nodes of the next level in the order of their edges.
        pairs, edge_of = np.unique(at_node * width + table[going, level], return_inverse=True)
        nodes, targets = np.divmod(pairs, width)
        edge_nodes.append(nodes)
        edge_targets.append(targets)
        edge_before.append(node_edge[nodes - node_levels[level]])
        first_edge, first_node = edge_levels[-1], node_levels[-1]
        edge_levels.append(first_edge + len(pairs))

        ends = lengths[going] == level
        sentence_edges[going[ends]] = first_edge + edge_of[ends]
        continuing = np.flatnonzero(targets != BOUNDARY_ID)
        if not len(continuing):
            break
        new_node = np.full(len(pairs), -1)
        new_node[continuing] = first_node + np.arange(len(continuing))
        node_words.append(targets[continuing])
        node_parents.append(nodes[continuing])
        node_levels.append(first_node + len(continuing))
        node_edge = first_edge + continuing
        going, at_node = going[~ends], new_node[edge_of[~ends]]
    return PrefixTree(
        np.concatenate(node_words),
        np.concatenate(node_parents),
        np.array(node_levels),
        np.concatenate(edge_nodes),
        np.concatenate(edge_targets),
        np.concatenate(edge_before),
        np.array(edge_levels),
        sentence_edges,
        int(lengths.sum()) + len(sentences),
    )
