"""DeViSE, Frome et al. 2013, as DVSA compares with it: the mean word vector of a sentence against the whole picture.

    S_kl = v_k . (M mean_t x_t)          v_k = W_m I_k + b_m

written as a sum over words, s_t = M x_t / T of the T words of a sentence, which makes it Eq. 8 of one region.
"""

import torch
from torch import Tensor

from mrnn.train.initialise import draw_weights
from mrnn.train.models.layers import Projection
from mrnn.train.models.matching_configs import MatchingConfig
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pairs import PackedWords


class DeViSE(TwoTowers):
    """Whole pictures and bags of words."""

    def __init__(self, config: MatchingConfig) -> None:
        super().__init__(config)
        self.word_to_joint = Projection(config.embedding, config.joint)

    def words(self, packed: PackedWords) -> Tensor:
        """See `TwoTowers`."""
        vectors: Tensor = self.word_to_joint(self.dropout(self.embedding(packed.tokens)))
        return vectors / packed.sentence_lengths()[:, None].to(vectors.dtype)

    def initialise(self, generator: torch.Generator) -> None:
        """See `Model`."""
        draw_weights(self, generator, embedding="embedding", embedding_scale=self.config.embedding_scale)
