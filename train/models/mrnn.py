"""The multimodal recurrent neural network of Mao et al. 2014 (arXiv 1410.1090).

    w(t) = E2 E1[w_t]                            two embeddings, 128 and 256 wide, linear
    r(t) = ReLU(U r(t-1) + w(t))                 recurrent layer, 256; r(0) = 0; no input matrix, no bias
    m(t) = g(V_w w(t) + V_r r(t) + V_I I)        multimodal layer, 512; g(x) = 1.7159 tanh(2x/3)
    P(w_{t+1} | w_1..w_t, I) = softmax(O m(t) + b)

The recurrent layer never sees the image. So what the words contribute to m, `language`, is computed once a sentence,
and what the image contributes, `image`, once an image; only their sum, g and the softmax are per pair. Training
(mrnn.train.losses) and retrieval (mrnn.evaluate.retrieval.late_fusion) are built on that split. Letters: CONTRIBUTING.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mrnn.train.models.layers import Dropout, Projection, recur_packed


@dataclass(frozen=True)
class MRNNConfig:
    """Sizes and switches of the network; a checkpoint holds them and rebuilds its model from them.

    vocabulary : V, with the boundary and unknown signs. features : D, length of an image feature.
    embedding2 must equal recurrent, since w(t) is added to U r(t-1) as it is.
    dropout : share of units dropped from w(t), from r(t) on its way up (never inside the recurrence) and from m(t).
    image_dropout : the same for the image feature.
    """

    vocabulary: int
    features: int
    embedding1: int = 128
    embedding2: int = 256
    recurrent: int = 256
    multimodal: int = 512
    dropout: float = 0.5
    image_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.embedding2 != self.recurrent:
            raise ValueError(
                f"the second embedding ({self.embedding2}) must be as wide as the recurrent layer ({self.recurrent}): "
                "r(t) = ReLU(U r(t-1) + w(t)) adds the two"
            )
        for name in ("vocabulary", "features", "embedding1", "embedding2", "recurrent", "multimodal"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("dropout", "image_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), not {getattr(self, name)}")


def scaled_tanh(x: Tensor) -> Tensor:
    """g(x) = 1.7159 tanh(2x/3), the activation of the multimodal layer (LeCun et al., Efficient BackProp).

    On a CPU taken as 1.7159 (2 sigmoid(4x/3) - 1), which is the same: torch's sigmoid is ten times as fast there as its
    tanh. (In bfloat16, for GPUs, it would lose accuracy.)
    """
    if x.device.type != "cpu" or x.dtype == torch.bfloat16:
        return torch.tanh(x * (2 / 3)) * 1.7159
    return torch.sigmoid(x * (4 / 3)) * (2 * 1.7159) - 1.7159


class MRNN(nn.Module):
    """m-RNN in the pieces that training, decoding and retrieval put together in their own ways.

    The image feature I is the stored one less `feature_mean`, times `feature_scale`, both taken from the training
    images and kept in the checkpoint. So activations of any size train with the same settings, and what all images
    have in common does not drown what tells them apart. For the multimodal layer this is a bias, V_I (I - mean).
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, config: MRNNConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding1 = nn.Embedding(config.vocabulary, config.embedding1)
        self.embedding2 = Projection(config.embedding1, config.embedding2)
        self.recurrence = Projection(config.recurrent, config.recurrent)
        self.word_to_multimodal = Projection(config.embedding2, config.multimodal)
        self.recurrent_to_multimodal = Projection(config.recurrent, config.multimodal)
        self.image_to_multimodal = Projection(config.features, config.multimodal)
        self.output = nn.Linear(config.multimodal, config.vocabulary)
        self.dropout = Dropout(config.dropout)
        self.image_dropout = Dropout(config.image_dropout)
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_scale", torch.ones(()))

    def words(self, tokens: Tensor) -> Tensor:
        """w(t) for word numbers: (...) int64 -> (..., H)."""
        return self.dropout(self.embedding2(self.embedding1(tokens)))

    def recur(self, words: Tensor, previous: Tensor) -> Tensor:
        """One step r(t) = ReLU(U r(t-1) + w(t)): two (B, H) -> (B, H)."""
        return torch.relu(self.recurrence(previous) + words)

    def recur_packed(self, words: Tensor, sizes: Sequence[int]) -> Tensor:
        """r(t) of whole sentences from r(0) = 0, packed: step after step, the longest sentence first in each.

        words : (P, H); sizes : how many sentences have a t-th word, never rising with t; rows beyond their sum do not
        matter. Returns (P, H) in the same packing.
        """
        return recur_packed(words, self.recurrence.weight, sizes)

    def language(self, words: Tensor, recurrent: Tensor) -> Tensor:
        """What the sentence so far contributes to the multimodal layer, V_w w + V_r r: two (..., H) -> (..., M)."""
        return self.word_to_multimodal(words) + self.recurrent_to_multimodal(self.dropout(recurrent))

    def image(self, features: Tensor) -> Tensor:
        """What an image contributes to the multimodal layer, V_I I: (..., D) -> (..., M)."""
        return self.image_to_multimodal(self.image_dropout((features - self.feature_mean) * self.feature_scale))

    def multimodal(self, language: Tensor, image: Tensor) -> Tensor:
        """m(t) = g(language + image): (..., M)."""
        return self.dropout(scaled_tanh(language + image.to(language.dtype)))

    def forward(self, inputs: Tensor, sizes: Sequence[int], features: Tensor, image_of_token: Tensor) -> Tensor:
        """m(t) of every row of a packed batch (mrnn.train.batches.Batch): (P, M).

        What comes after it, `output` and softmax, belongs to the loss (mrnn.train.losses): it never holds all logits.
        """
        words = self.words(inputs)
        language = self.language(words, self.recur_packed(words, sizes))
        return self.multimodal(language, self.image(features).index_select(0, image_of_token))
