"""The multimodal recurrent neural network of Mao et al. 2014 (arXiv 1410.1090), and its baseline without the image.

    w(t) = E2 E1[w_t]                            two embeddings, 128 and 256 wide, linear
    r(t) = ReLU(U r(t-1) + w(t))                 recurrent layer, 256; r(0) = 0; no input matrix, no bias
    m(t) = g(V_w w(t) + V_r r(t) + V_I I)        multimodal layer, 512; g(x) = 1.7159 tanh(2x/3)
    P(w_{t+1} | w_1..w_t, I) = softmax(O m(t) + b)

The recurrent layer does not depend on the image: words and image meet only in the sum inside g, which makes this a
LateFusion model. Retrieval (mrnn.evaluate.retrieval) is built on that split. CONTRIBUTING.md explains the letters.

MRNNConfig has the variants of the papers that followed (ICLR 2015, arXiv 1412.6632; ICCV 2015, arXiv 1504.06692): other
recurrent layers, an output layer that shares the word vectors, and the network without one of its parts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mrnn.train.batches import CaptionBatch
from mrnn.train.initialise import initialise_captioner
from mrnn.train.models.captioner import LateFusion, Multimodal
from mrnn.train.models.captioner_configs import MRNNConfig
from mrnn.train.models.layers import Dropout, Projection
from mrnn.train.models.recurrences import LAYERS
from mrnn.train.models.shared_output import SharedOutput


class MRNNLayers(Multimodal):
    """The layers of m-RNN and its variants, wherever the image enters."""

    config: MRNNConfig

    def __init__(self, config: MRNNConfig) -> None:
        super().__init__(config)
        # Without a first embedding E1 itself is as wide as w(t).
        self.embedding1 = nn.Embedding(config.vocabulary, config.embedding1 or config.embedding2)
        self.embedding2 = Projection(config.embedding1, config.embedding2) if config.embedding1 else nn.Identity()
        self.recurrence = LAYERS[config.recurrence](config.embedding2, config.recurrent)
        self.memory_size = self.recurrence.memory_size
        if config.word_path:
            self.word_to_multimodal = Projection(config.embedding2, config.multimodal)
        self.recurrent_to_multimodal = Projection(config.recurrent, config.multimodal)
        self.image_to_multimodal = Projection(config.features, config.multimodal)
        if config.share_words:
            self.output = SharedOutput(self.embedding1, config.multimodal)
        else:
            self.output = nn.Linear(config.multimodal, config.vocabulary)
        self.dropout = Dropout(config.dropout)
        self.image_dropout = Dropout(config.image_dropout)

    def words(self, tokens: Tensor) -> Tensor:
        """w(t) for word numbers: (...) int64 -> (..., embedding2)."""
        return self.dropout(self.embedding2(self.embedding1(tokens)))

    def recur(self, words: Tensor, memory: Tensor) -> Tensor:
        """The memory after a word (mrnn.train.models.recurrences): (B, embedding2), (B, memory_size) -> the latter."""
        return self.recurrence.step(words, memory)

    def recur_packed(self, words: Tensor, sizes: Sequence[int]) -> Tensor:
        """r(t) of packed sentences from r(0) = 0.

        words : (P, embedding2), the recurrent layer's input step after step, the longest sentence first in each step.
        sizes : number of rows of each step, never increasing.

        Returns (P, H) in the same order.
        """
        return self.recurrence.packed(words, sizes)

    def combine(self, words: Tensor, memory: Tensor) -> Tensor:
        """The language half of the multimodal layer, V_w w + V_r r with r at the start of the memory: -> (..., M)."""
        recurrent = self.recurrent_to_multimodal(self.dropout(memory[..., : self.config.recurrent]))
        return self.word_to_multimodal(words) + recurrent if self.config.word_path else recurrent

    def initialise(self, generator: torch.Generator) -> None:
        """See `Captioner`."""
        initialise_captioner(self, self.config, generator, embedding="embedding1", recurrence="recurrence")


class MRNN(MRNNLayers, LateFusion):
    """m-RNN. The image feature is centred (Captioner), which amounts to a bias of the multimodal layer, -V_I mean."""

    def language(self, words: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """See `LateFusion`; the memory is r(t), and with an LSTM its cell too."""
        vectors = self.words(words)
        memory = self.recur(vectors, memory)
        return self.combine(vectors, memory), memory

    def language_packed(self, batch: CaptionBatch) -> Tensor:
        """See `LateFusion`."""
        words = self.words(batch.inputs)
        return self.combine(words, self.recur_packed(words, batch.sizes))


class RNNBase(MRNN):
    """RNN-Base, the paper's baseline without V_I I; it equals an m-RNN whose image feature I is 0."""

    sees_images = False

    def __init__(self, config: MRNNConfig) -> None:
        super().__init__(config)
        del self.image_to_multimodal

    def image(self, features: Tensor) -> Tensor:
        """Zeros of shape (..., M) for any features (..., D)."""
        return features.new_zeros(*features.shape[:-1], self.config.multimodal)
