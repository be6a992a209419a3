"""The objective of DeFrag (arXiv 1406.5679): pairs as in Eq. 9 of DVSA, and beside them single words and regions.

    C_F = sum over words t of  mean over positive i of max(0, 1 - v_i . s_t)
                             + mean over negative i of max(0, 1 + v_i . s_t)

with i over the regions of all images of the batch. Those of other images are negative. Of the word's own image at least
one must be positive, and the data do not say which (multiple-instance learning): those with a positive product, or, if
there are none, the one with the largest. The paper normalises by the numbers of positive and negative pairs; that this
is done for each word is what the authors' program does (DeFragCost.m).
"""

import torch
from torch import Tensor

from mrnn.train.models.best_region import all_products
from mrnn.train.models.defrag import DeFrag
from mrnn.train.models.two_towers import TwoTowers, scores_of_products, widened
from mrnn.train.pairs import NO_SENTENCE, MatchingBatch
from mrnn.train.tasks.matching import Matching, margin_cost

MARGIN = 1.0  # of a single product; that of pairs is a setting


class FragmentMatching(Matching):
    """Matching by a DeFrag model, which also learns from single words and regions."""

    def cost(self, model: TwoTowers, batch: MatchingBatch) -> Tensor:
        """See `Task`: hinges of the pairs, plus `fragments` times C_F."""
        assert isinstance(model, DeFrag)
        products = all_products(*model.vectors(batch))
        pairs = margin_cost(scores_of_products(products, batch), margin=model.config.margin, hardest=batch.hardest)
        return pairs + model.config.fragments * fragment_cost(widened(products) * model.divisors(batch), batch)


def fragment_cost(products: Tensor, batch: MatchingBatch) -> Tensor:
    """C_F of the products v_i . s_t of a batch, (P, R, B): a scalar. No gradient flows through the choice of signs."""
    with torch.no_grad():
        positive = positive_products(products, batch)
        negative = ~positive & batch.valid.t() & (batch.sentence != NO_SENTENCE)[:, None, None]
        count = torch.where(positive, positive.sum((1, 2), keepdim=True), negative.sum((1, 2), keepdim=True))
        weights = (positive | negative) / count.clamp(min=1).to(products.dtype)
    hinges = (MARGIN - torch.where(positive, products, -products)).relu()
    return (weights * hinges).sum()


def positive_products(products: Tensor, batch: MatchingBatch) -> Tensor:
    """Which of the products of a batch should be large: (P, R, B) -> (P, R, B) bool. At least one of each word."""
    image = batch.sentence.clamp(min=0)
    own = products.gather(2, image[:, None, None].expand(-1, products.shape[1], 1))[:, :, 0]  # (P, R)
    own = own.masked_fill(~batch.valid[image], -torch.inf)
    regions, images = (torch.arange(size, device=products.device) for size in products.shape[1:])
    chosen = (own > 0) | (own.argmax(1, keepdim=True) == regions)
    return chosen[:, :, None] & (batch.sentence[:, None] == images)[:, None, :]
