"""The training segment that suits a region best by an alignment model: the ranking baseline of DVSA's Table 3."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.tokenize import tokenize
from mrnn.evaluate.grounding.alignments import alignment_model
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.models.alignment import Alignment
from mrnn.train.pair_scores import word_vectors
from mrnn.train.products import product
from mrnn.train.segment_files import Segments
from mrnn.train.sentences import encode_sentences

SEGMENTS, REGIONS = 4096, 1024  # of a tile of scores


@torch.no_grad()
def best_segments(
    trained: TrainedModel,
    cache: FeatureCache,
    rows: Sequence[int] | np.ndarray,
    segments: Segments,
    *,
    after_part: Callable[[int], None] = lambda segments: None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each region the segment with the largest score, the sum of v . s_t over its words, of equal ones the first.

    s_t is computed from the whole sentence, as in Eq. 8. Tile after tile, so that no matrix is larger than a tile.

    trained : an alignment model.
    rows : (n,) rows of the cache with the features of the regions.
    segments : of sentences of the cache, in the order of the sentences.
    after_part : called with the number of segments done since the last call.

    Returns (n,) int64 numbers of segments and (n,) float32 scores. Raises EvaluationError for another kind of model.
    """
    model = alignment_model(trained)
    features = torch.from_numpy(cache.features[np.asarray(rows)].astype(np.float32)).to(model.feature_mean.device)
    regions = model.regions(features[:, None], features.new_ones(len(features), 1, dtype=torch.bool))[0]  # (n, h)
    best = regions.new_full((len(regions),), -torch.inf)
    chosen = torch.zeros(len(regions), dtype=torch.int64, device=regions.device)
    for start in range(0, len(segments), SEGMENTS):
        part = segments[start : start + SEGMENTS]
        vectors = segment_vectors(model, trained, cache, part)
        for left in range(0, len(regions), REGIONS):
            here = slice(left, left + REGIONS)
            scores, places = product(regions[here], vectors).max(dim=1)
            better = scores > best[here]
            best[here] = torch.where(better, scores, best[here])
            chosen[here] = torch.where(better, places + start, chosen[here])
        after_part(len(part))
    return chosen.cpu().numpy(), best.cpu().numpy()


def segment_vectors(model: Alignment, trained: TrainedModel, cache: FeatureCache, segments: Segments) -> Tensor:
    """The sum of s_t over the words of each of S segments: (S, h)."""
    said = np.stack([segments.image, segments.number], axis=1)
    sentences, owner = np.unique(said, axis=0, return_inverse=True)
    words = [tokenize(cache.images[image].sentences[number]) for image, number in sentences.tolist()]
    vectors = word_vectors(model, encode_sentences(words, sentences[:, 0], trained.vocabulary))
    lengths = segments.end - segments.first
    begins = vectors.starts[owner.ravel()] + segments.first
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    taken = torch.from_numpy(np.repeat(begins, lengths) + steps).to(vectors.vectors.device)
    sizes = torch.from_numpy(lengths).to(vectors.vectors.device)
    return torch.segment_reduce(vectors.vectors[taken], "sum", lengths=sizes, axis=0)
