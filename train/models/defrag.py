"""A model in the manner of DeFrag, Karpathy, Joulin and Fei-Fei 2014 (arXiv 1406.5679), with words as its fragments.

    S_kl = 1 / (|g_k| (|g_l| + n)) sum over words t of l, sum over regions i of k, of max(0, v_i . s_t)

with |g_k| regions, |g_l| words and n = 5, without which short sentences would have an advantage. DeFrag's own fragments
of a sentence are the relations of a parser. Here they are words, read by the network of `Alignment`, so that the two
models differ in score and cost alone. The cost is in mrnn.train.tasks.fragments.
"""

from torch import Tensor

from mrnn.train.models.alignment import Alignment
from mrnn.train.models.matching_configs import DeFragConfig
from mrnn.train.pairs import MatchingBatch, PackedWords

SMOOTHING = 5  # n


class DeFrag(Alignment):
    """Regions and words whose products are divided by the numbers of both.

    max(0, x) / c = max(0, x / c), so the vectors are divided, and whatever scores pairs does as for any other model.
    """

    config: DeFragConfig

    def regions(self, features: Tensor, valid: Tensor) -> Tensor:
        """v_i / |g_k|; see `TwoTowers`."""
        found = super().regions(features, valid)
        return found / valid.sum(1)[:, None].to(found.dtype)

    def words(self, packed: PackedWords) -> Tensor:
        """s_t / (|g_l| + n); see `TwoTowers`."""
        found = super().words(packed)
        return found / (packed.sentence_lengths() + SMOOTHING)[:, None].to(found.dtype)

    def divisors(self, batch: MatchingBatch) -> Tensor:
        """What v_i . s_t has been divided by: (P, 1, B) int64."""
        return (batch.sentence_lengths() + SMOOTHING)[:, None, None] * batch.valid.sum(1)
