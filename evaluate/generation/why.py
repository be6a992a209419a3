"""Why a word: how much the words before it and the image raised or lowered its probability.

The multimodal layer adds what the sentence so far says and what the image says, and either can be left out of the sum:

    p(w | words, I) = softmax(O g(L + V_I I) + b)[w],     L = V_w w(t) + V_r r(t)

    log p(w | words, I) = base + words + image
        base  = log p(w | -, -)                               neither: softmax(b), close to how frequent the word is
        words = log p(w | words, -) - log p(w | -, -)         what the words before it add to that
        image = log p(w | words, I) - log p(w | words, -)     what the image adds to what the words say

The image is left out by V_I I = 0. The model takes the mean of the training images off every feature
(Captioner.centred), so that is the same as showing it the average image. The parts are in nats: exp(image) is the
factor by which the image made the word more probable. The order matters, since g and softmax are not linear: the image
is credited with what it adds where the words are known, not the other way round.
"""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.evaluate.generation.decode import Caption
from mrnn.train.models.captioner import LateFusion

CAPTIONS = 64  # worked on at a time, which bounds the memory


@torch.inference_mode()
def reasons(model: LateFusion, features: Tensor, captions: Sequence[Caption]) -> list[np.ndarray]:
    """The three parts of each word's log-probability: (B, D) features and the caption of each -> B arrays (T, 3).

    Columns: base, words, image; a row for each word and, where the caption is complete, one for END. A row's sum is
    the natural log P(word | words before it, I). Computed in float64. Raises ValueError in training mode.
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
    # Captions that have ended go on as END; what comes of it is cut off below.
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
