"""The interface of a model that is trained on captions, generates them, and ranks them.

`Predictor` is what perplexity and decoding use. `Captioner` is such a model with one output layer, which is sufficient
for training and the slow exact score of a pair. `LateFusion` adds the split on which fast retrieval, bounds, shortlists
and explanations are built: words and image meet in a single sum, in the layer of `Multimodal`.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mrnn.train.batches import CaptionBatch
from mrnn.train.losses import token_bits
from mrnn.train.models.captioner_configs import CaptionerConfig
from mrnn.train.models.layers import Dropout, Projection, ScaledTanh
from mrnn.train.models.model import Model
from mrnn.train.models.shared_output import SharedOutput
from mrnn.train.products import product

State = tuple[Tensor, ...]  # the first axis of each tensor is the hypothesis


def select(state: State, rows: Tensor) -> State:
    """The state of some hypotheses, given by a bool mask or by (n,) int64 numbers."""
    return tuple(part[rows] for part in state)


class Predictor(nn.Module, ABC):
    """P(w_{t+1} | w_1..w_t, I), by whatever is inside. All its parameters have one device and one precision."""

    config: CaptionerConfig
    sees_images = True

    @abstractmethod
    def start(self, features: Tensor) -> State:
        """The state before the first word: (n, D) stored features of the image of each of n hypotheses."""

    @abstractmethod
    def next_words(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Read the next word of each hypothesis, START first, and predict the one after it.

        words : (n,) int64.
        state : as returned for the word before.

        Returns logits, (n, V), whose softmax is P, and the new state.
        """

    @abstractmethod
    def target_bits(self, batch: CaptionBatch) -> Tensor:
        """-log2 P of the target of every row of a packed batch, without gradients: (P,)."""

    @abstractmethod
    def image_vector(self, features: Tensor) -> Tensor:
        """A vector of each image by which images are compared, from stored features: (n, D) -> (n, any)."""


class Captioner(Model, Predictor):
    """P(w_{t+1} | w_1..w_t, I) = softmax(output(hidden_t)): a hidden vector per word read, and an output layer."""

    config: CaptionerConfig
    output: nn.Linear | SharedOutput  # M to V, with bias; the softmax is in the loss, which never holds all logits

    @abstractmethod
    def forward(self, batch: CaptionBatch) -> Tensor:
        """The hidden vector of every row of a packed batch: (P, M)."""

    @abstractmethod
    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Read the next word of each hypothesis, START first: (n,) int64 and state -> (n, M) hidden and new state."""

    def next_words(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Predictor`."""
        hidden, state = self.step(words, state)
        return product(hidden, self.output.weight, self.output.bias), state

    def target_bits(self, batch: CaptionBatch) -> Tensor:
        """See `Predictor`."""
        return token_bits(self(batch), self.output.weight, self.output.bias, batch.targets)

    def image_vector(self, features: Tensor) -> Tensor:
        """See `Predictor`: the centred feature."""
        return self.centred(features)


class Multimodal(Captioner):
    """A captioner with m-RNN's multimodal layer: its hidden vector is m(t) = g(language + image).

    fusion : g, the activation of the sum.
    dropout : of m(t), in training.
    """

    fusion = ScaledTanh()
    dropout: Dropout

    def fuse(self, language: Tensor, image: Tensor) -> Tensor:
        """The hidden vector, fusion(language + image), with dropout in training: two (..., M) -> (..., M)."""
        return self.dropout(self.fusion(language + image.to(language.dtype)))


class LateFusion(Multimodal):
    """m(t) = g(language_t + V_I I), where language_t depends on the words only.

    So the language half of a sentence is computed once for all images, and the image half once for all sentences.

    image_to_multimodal, image_dropout : V_I, and the dropout of I in training.
    memory_size : length of the vector that the language half carries from word to word; it is zero at the start.
    """

    image_to_multimodal: Projection
    image_dropout: Dropout
    memory_size: int

    def image(self, features: Tensor) -> Tensor:
        """The contribution of an image to the hidden layer, V_I I: (..., D) -> (..., M)."""
        return self.image_to_multimodal(self.image_dropout(self.centred(features)))

    @abstractmethod
    def language(self, words: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The contribution of the sentence so far, after reading these words.

        words : (n,) int64, the next word of each sentence.
        memory : (n, memory_size), as returned for the word before.

        Returns (n, M) and the new memory.
        """

    @abstractmethod
    def language_packed(self, batch: CaptionBatch) -> Tensor:
        """The contribution of the words at every row of a packed batch: (P, M)."""

    def forward(self, batch: CaptionBatch) -> Tensor:
        """See `Captioner`."""
        language = self.language_packed(batch)
        # The image half is computed once per distinct image and then copied to the rows of its words.
        return self.fuse(language, self.image(batch.features).index_select(0, batch.image_of_token))

    def image_vector(self, features: Tensor) -> Tensor:
        """See `Predictor`: the image half."""
        return self.image(features)

    def start(self, features: Tensor) -> State:
        """See `Predictor`: the image half and an empty memory."""
        image = self.image(features)
        return image, image.new_zeros(image.shape[0], self.memory_size)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Captioner`."""
        image, memory = state
        language, memory = self.language(words, memory)
        return self.fuse(language, image), (image, memory)
