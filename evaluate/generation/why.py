"""Explain a word: how much the preceding words and the image raised or lowered its probability.

The multimodal layer adds a term for the sentence so far and a term for the image, and either can be left out:

    p(w | words, I) = softmax(O g(L + V_I I) + b)[w],     L = V_w w(t) + V_r r(t)

    log p(w | words, I) = base + words + image
        base  = log p(w | -, -)                               neither: softmax(b), close to the word's frequency
        words = log p(w | words, -) - log p(w | -, -)         the effect of the preceding words
        image = log p(w | words, I) - log p(w | words, -)     the effect of the image, given the words

The image is left out by setting V_I I = 0. Since features are centred on the mean of the training images
(Captioner.centred), this equals showing the model the average image. The parts are in nats: exp(image) is the factor by
which the image made the word more probable. The order matters, since g and softmax are not linear: `image` is the
effect of the image once the words are known, not the other way round.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.evaluate.generation.decode import Caption
from mrnn.train.models.captioner import LateFusion

CAPTIONS = 64  # captions processed at a time, which bounds the memory


@torch.inference_mode()
def reasons(model: LateFusion, features: Tensor, captions: Sequence[Caption]) -> list[np.ndarray]:
    """The three parts of the log-probability of each word, computed in float64.

    model : the model in eval mode.
    features : (B, D), stored features of the images.
    captions : a caption of each image.

    Returns B arrays (T, 3) with the columns base, words, image, and one row per word and one for END if the caption is
    complete. A row sums to the natural log P(word | preceding words, I). Raises ValueError in training mode.
    """
    if model.training:
        raise ValueError("reasons need the model in eval mode: dropout would change the probabilities")
    model = deepcopy(model).double()
    found: list[np.ndarray] = []
    for start in range(0, len(captions), CAPTIONS):
        found += _reasons(model, features[start : start + CAPTIONS], captions[start : start + CAPTIONS])
    return found


def _reasons(model: LateFusion, features: Tensor, captions: Sequence[Caption]) -> list[np.ndarray]:
    bias = model.output.bias
    image = model.image(features.to(bias))
    memory = bias.new_zeros(len(captions), model.memory_size)
    longest = max(len(caption.log_probs) for caption in captions)
    # Ended captions are padded with END; the rows of the padding are cut off below.
    padded = [([BOUNDARY_ID, *caption.words] + [BOUNDARY_ID] * longest)[: longest + 1] for caption in captions]
    tokens = torch.tensor(padded, device=bias.device)
    parts = []
    for step in range(longest):
        language, memory = model.language(tokens[:, step], memory)
        target = tokens[:, step + 1, None]
        nothing, words, both = (
            model.output(model.fuse(*halves)).log_softmax(-1).gather(1, target)[:, 0]
            for halves in (
                (torch.zeros_like(language), torch.zeros_like(image)),
                (language, torch.zeros_like(image)),
                (language, image),
            )
        )
        parts.append(torch.stack([nothing, words - nothing, both - words], -1))
    stacked = torch.stack(parts, 1).cpu().numpy() if parts else np.zeros((len(captions), 0, 3))
    return [rows[: len(caption.log_probs)] for rows, caption in zip(stacked, captions, strict=True)]
