"""Learning which sentence belongs to which picture: the max-margin cost of DVSA, Eq. 9 (arXiv 1412.2306).

    C = sum_k [ sum_{l != k} max(0, S_kl - S_kk + 1) + sum_{l != k} max(0, S_lk - S_kk + 1) ]

over the pairs k of a batch, S_kl the score of image k with sentence l. Without l != k each pair would add a constant 2.
With `hardest` the two inner sums are maxima, as in VSE++ (Faghri et al. 2018, arXiv 1707.05612).
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mrnn.train.features import Features
from mrnn.train.measures import Cost, Criterion, recalls
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pair_scores import pair_scores, region_vectors, word_vectors
from mrnn.train.pairs import MatchingBatch, batch_count, epoch_batches
from mrnn.train.sentences import Sentences
from mrnn.train.settings import TrainSettings
from mrnn.train.tasks.task import TrainingData
from mrnn.train.word_vectors import read_word_vectors

RANKED = 512  # images ranked at a time in validation


class Matching:
    """The task (mrnn.train.tasks.task.Task) of models of two towers: true pairs above false ones, by a margin."""

    name = "matching"
    criterion = Criterion("val_recall_sum", "dev sum of recalls", lower_is_better=False)
    measure = Cost("hinge", "hinge per pair", "pairs", "pairs")
    divisible = False

    def __init__(self, settings: TrainSettings) -> None:
        self._hardest_from: int = settings.config(vocabulary=2, features=1).hardest_from  # type: ignore[attr-defined]

    def batches(
        self,
        data: TrainingData,
        settings: TrainSettings,
        *,
        epoch: int,
        skip: int,
        part: tuple[int, int],
        rectangular: bool,
    ) -> Iterator[MatchingBatch]:
        """See `Task`; part is all of it."""
        return epoch_batches(
            data.train,
            data.features,
            settings.batch_size,
            seed=settings.seed,
            epoch=epoch,
            skip=skip,
            device=data.device,
            hardest=bool(self._hardest_from) and epoch + 1 >= self._hardest_from,
            rectangular=rectangular,
        )

    def batch_count(self, data: TrainingData, settings: TrainSettings) -> int:
        """See `Task`."""
        return batch_count(data.train, settings.batch_size)

    def cost(self, model: TwoTowers, batch: MatchingBatch) -> Tensor:
        """See `Task`: hinges, summed over pairs."""
        return margin_cost(model(batch), margin=model.config.margin, hardest=batch.hardest)

    def validate(self, model: TwoTowers, data: TrainingData) -> dict[str, float]:
        """See `Task`: retrieval in both directions among all images and sentences of the dev split."""
        return retrieval_recalls(model, data.val, data.features)

    def begin(self, model: TwoTowers, data: TrainingData, settings: TrainSettings) -> None:
        """See `Task`: the word vectors of a file, and the mean and scale of image features."""
        config = model.config
        if config.word_vectors:
            numbers, vectors = read_word_vectors(config.word_vectors, data.vocabulary, size=config.embedding)
            with torch.no_grad():
                # At the scale of the random ones, which words that the file lacks keep: GloVe's own is ten times as
                # large, and training did not recover from it.
                spread = model.embedding.weight.square().mean().sqrt()
                scale = spread / max(float(np.sqrt(np.square(vectors).mean())), 1e-12)
                model.embedding.weight[torch.from_numpy(numbers)] = torch.from_numpy(vectors) * scale
        model.take_moments(*data.features.moments(np.unique(data.train.image)), scale=config.image_scale)

    def limit(self, data: TrainingData) -> float:
        """See `Task`: none, since a cost may be as large as the scores are; it must be finite."""
        return math.inf


def margin_cost(scores: Tensor, *, margin: float, hardest: bool) -> Tensor:
    """Eq. 9 of (B, B) scores S[k, l] of image k and sentence l, whose true pairs are on the diagonal: a scalar.

    hardest : count only the worst false pair of each image and of each sentence.
    """
    true = scores.diagonal()
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    sentences = (scores - true[:, None] + margin).relu().masked_fill(itself, 0)  # wrong ones for image k
    images = (scores - true[None, :] + margin).relu().masked_fill(itself, 0)  # wrong ones for sentence l
    if hardest:
        return sentences.amax(1).sum() + images.amax(0).sum()
    return sentences.sum() + images.sum()


def retrieval_recalls(model: TwoTowers, sentences: Sentences, features: Features) -> dict[str, float]:
    """R@1, 5 and 10 in percent and median ranks among all images that have sentences, and the sum of the six recalls.

    An image's rank is that of its best own sentence. Ties count against the model.
    """
    images, own = np.unique(sentences.image, return_inverse=True)
    words, mine = word_vectors(model, sentences), [np.flatnonzero(own == i) for i in range(len(images))]
    regions = region_vectors(model, features, images)
    true = np.empty(len(sentences), dtype=np.float32)
    for i, numbers in enumerate(mine):
        alone = pair_scores(words.chosen(numbers), regions[:, i : i + 1], score=model.score)
        true[numbers] = alone[:, 0].cpu().numpy()
    to_sentence, to_image = np.ones(len(images), dtype=np.int64), np.ones(len(sentences), dtype=np.int64)
    for start in range(0, len(images), RANKED):
        scores = pair_scores(words, regions[:, start : start + RANKED], score=model.score).cpu().numpy()  # (S, n)
        for column, numbers in enumerate(mine[start : start + RANKED]):
            scores[numbers, column] = -np.inf  # right answers, which are not ahead of themselves
            to_sentence[start + column] += (scores[:, column] >= true[numbers].max()).sum()
        to_image += (scores >= true[:, None]).sum(axis=1)
    return recalls(to_sentence, to_image, prefix="val_")
