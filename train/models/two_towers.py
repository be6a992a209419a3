"""Models that score a pair by products of vectors of its regions with vectors of its words.

    v_i = W_m I_i + b_m                                       Eq. 1 of DVSA (arXiv 1412.2306)
    S_kl = sum over words t of l, max over regions i of k, of v_i . s_t            Eq. 8, `max`
    S_kl = sum over words t of l, sum over regions i of k, of max(0, v_i . s_t)    Eq. 7, `sum`

Neither side sees the other before the product, so all pairs of many images and sentences are one matrix product.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from mrnn.train.models.best_region import all_products, best_region_products
from mrnn.train.models.layers import Dropout
from mrnn.train.models.matching_configs import MatchingConfig
from mrnn.train.models.model import Model
from mrnn.train.pairs import MatchingBatch, PackedWords
from mrnn.train.products import linear


class TwoTowers(Model):
    """Vectors of regions and of words in one space.

    score : how the products of a pair become its score, 'max' (Eq. 8) or 'sum' (Eq. 7).
    """

    config: MatchingConfig

    def __init__(self, config: MatchingConfig) -> None:
        super().__init__(config)
        self.score = config.score
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.embedding.weight.requires_grad_(not config.fixed_words)
        self.region = nn.Linear(config.features, config.joint)
        self.dropout = Dropout(config.dropout)
        self.image_dropout = Dropout(config.image_dropout)

    def regions(self, features: Tensor, valid: Tensor) -> Tensor:
        """v of stored features, Eq. 1: (n, R, D) and (n, R) bool -> (R, n, h).

        Rows without a region get a vector that changes no score: the whole picture's for Eq. 8, zero for Eq. 7.
        """
        inputs = self.image_dropout(self.centred(features)).transpose(0, 1)
        found = linear(inputs, self.region.weight)
        found = found + self.region.bias.to(found.dtype)
        instead = found[:1] if self.score == "max" else found.new_zeros(())
        return torch.where(valid.t()[:, :, None], found, instead)

    @abstractmethod
    def words(self, packed: PackedWords) -> Tensor:
        """s of packed words: (P, h). Rows of no sentence hold anything."""

    def vectors(self, batch: MatchingBatch) -> tuple[Tensor, Tensor]:
        """Of the words and the regions of a batch: (P, h) and (R, B, h)."""
        regions = self.regions(batch.features, batch.valid)
        return self.words(batch), regions

    def forward(self, batch: MatchingBatch) -> Tensor:
        """The scores of all pairs of a batch, (B, B) float32 or wider: S[k, l] of image k and sentence l."""
        words, regions = self.vectors(batch)
        if self.score == "max":
            return sum_by_sentence(best_region_products(words, regions), batch).t()
        return scores_of_products(all_products(words, regions), batch)


def scores_of_products(products: Tensor, packed: PackedWords) -> Tensor:
    """Eq. 7: (P, R, B) -> (B, B) float32 or wider, S[k, l] of image k and sentence l."""
    return sum_by_sentence(products.relu().sum(1), packed).t()


def sum_by_sentence(by_word: Tensor, packed: PackedWords) -> Tensor:
    """Sums over the words of each sentence: (P, n) -> (B, n), float32 or wider.

    As a product, which on a GPU adds in the same order each time; index_add_ does not.
    """
    with torch.autocast(by_word.device.type, enabled=False):
        wide = widened(by_word)
        sentences = torch.arange(len(packed.lengths), device=wide.device)
        return (packed.sentence == sentences[:, None]).to(wide.dtype) @ wide


def widened(numbers: Tensor) -> Tensor:
    """As float32, or float64 where they are: sums of many bfloat16 numbers would lose most of their digits."""
    return numbers if numbers.dtype == torch.float64 else numbers.float()
