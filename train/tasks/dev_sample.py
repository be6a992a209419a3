"""What captions and rankings of a sample of the dev split are worth, for `--select cider` and `--select recall`.

Both stay within what an epoch can spare. evaluate-mrnn measures whole splits, with beams, P(w) over training images and
all sentences; those numbers differ, and only they are results.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mrnn.data.cider import SentenceVectors
from mrnn.data.vocabulary import BOUNDARY_ID, UNKNOWN_ID
from mrnn.train.batches import CaptionBatch, pack
from mrnn.train.features import Features
from mrnn.train.losses import LN2, token_bits
from mrnn.train.measures import recalls
from mrnn.train.models.captioner import Captioner, LateFusion
from mrnn.train.sentences import Sentences

LONGEST = 30  # words of a caption, END included; evaluate-mrnn has the same default


def sampled_images(sentences: Sentences, count: int) -> np.ndarray:
    """At most `count` of the images that have sentences, by number, spread evenly over the split."""
    images = np.unique(sentences.image)
    return images[np.arange(min(count, len(images))) * len(images) // min(count, len(images))]


@torch.no_grad()
def sample_cider(model: Captioner, sentences: Sentences, features: Features, *, images: np.ndarray) -> float:
    """CIDEr-D of greedy captions of some images: the mean over images, from 0 to 10.

    Words are word numbers, rare ones `<unk>`. Document frequencies are those of all the sentences.

    model : the model in evaluation mode.
    sentences : sentences of the split.
    features : features by image number.
    images : (n,) int64, the images.
    """
    captions = greedy_captions(model, features[images].to(model.feature_mean.device))
    words = [[str(number) for number in each] for each in np.split(sentences.tokens, sentences.starts[1:-1])]
    vectors = SentenceVectors.of_images(words, sentences.image)
    return float(
        np.mean(
            [
                vectors.similarities([[str(word) for word in caption]], np.flatnonzero(sentences.image == image)).mean()
                for caption, image in zip(captions, images, strict=True)
            ]
        )
    )


@torch.no_grad()
def greedy_captions(model: Captioner, features: Tensor) -> list[list[int]]:
    """The most probable next word again and again, `<unk>` left out, until END: word numbers without END.

    model : the model in evaluation mode. features : (n, D), stored features, on its device.
    """
    state = model.start(features)
    words = torch.full((len(features),), BOUNDARY_ID, device=features.device)
    steps = []
    for _ in range(LONGEST):
        logits, state = model.next_words(words, state)
        logits[:, UNKNOWN_ID] = -torch.inf
        words = logits.argmax(1)
        steps.append(words)
    table = torch.stack(steps, 1).cpu().numpy()
    return [each[: np.append(np.flatnonzero(each == BOUNDARY_ID), LONGEST)[0]].tolist() for each in table]


@torch.no_grad()
def sample_recalls(
    model: Captioner, sentences: Sentences, features: Features, *, images: np.ndarray
) -> dict[str, float]:
    """R@1, 5 and 10 in percent among some images, each with the first of its sentences, and the sum of the six.

    Images are ranked by log P(w|I), sentences by log P(w|I) - log P(w), where P(w) is the mean over these images.
    Arguments as for `sample_cider`.
    """
    owners, first = np.unique(sentences.image, return_index=True)
    batch = pack(sentences, first[np.isin(owners, images)], features, device=model.feature_mean.device)
    order = np.searchsorted(images, sentences.image[batch.sentences])
    scores = log_probabilities(model, batch, features[images].to(model.feature_mean.device))[:, np.argsort(order)]
    normalised = scores - np.logaddexp.reduce(scores, axis=0)
    own = normalised.diagonal()
    to_sentence = (normalised >= own[:, None]).sum(1)  # the own one is among them, and equal ones come first
    to_image = (normalised >= own).sum(0)
    return recalls(to_sentence, to_image, prefix="val_sample_")


def log_probabilities(model: Captioner, batch: CaptionBatch, features: Tensor) -> np.ndarray:
    """log P(w|I) of the B sentences of a packed batch for n images, (n, D): (n, B) float64."""
    weight, bias = model.output.weight, model.output.bias
    column = np.concatenate([np.arange(size) for size in batch.sizes])
    found = np.zeros((len(features), len(batch.sentences)))
    if isinstance(model, LateFusion):
        language, halves = model.language_packed(batch), model.image(features)
    for number, feature in enumerate(features):
        if isinstance(model, LateFusion):
            hidden = model.fuse(language, halves[number])
        else:
            one = torch.zeros_like(batch.image_of_token)
            hidden = model(replace(batch, features=feature[None], image_of_token=one))
        bits = token_bits(hidden, weight, bias, batch.targets)
        found[number] = np.bincount(column, bits[: len(column)].double().cpu().numpy()) * -LN2
    return found
