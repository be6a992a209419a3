"""What a model must offer to be trained on captions, to write them, and to rank them.

`Captioner` is enough for perplexity, decoding and the slow exact score of a pair. `LateFusion` adds the split that fast
retrieval, bounds, shortlists and explanations are built on: words and image meet in one sum only.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mrnn.train.batches import CaptionBatch
from mrnn.train.models.kinds import CaptionerConfig
from mrnn.train.models.layers import ScaledTanh

State = tuple[Tensor, ...]  # the first axis of each is the hypothesis


def select(state: State, rows: Tensor) -> State:
    """The state of some hypotheses: rows : (n,) int64 numbers, or bool mask."""
    return tuple(part[rows] for part in state)


class Captioner(nn.Module, ABC):
    """P(w_{t+1} | w_1..w_t, I) = softmax(output(hidden_t)): a hidden vector for every word read, and one word layer.

    The image feature I is the stored one minus `feature_mean`, times `feature_scale`, both taken from the training
    images and kept in the checkpoint. So activations of any size train with the same settings, and what all images
    have in common does not drown what tells them apart.
    """

    config: CaptionerConfig
    output: nn.Linear  # (M, V) with bias; the softmax belongs to the loss, which never holds all logits
    feature_mean: Tensor
    feature_scale: Tensor
    sees_images = True

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_scale", torch.ones(()))

    def centred(self, features: Tensor) -> Tensor:
        """I from stored features: (..., D) -> (..., D)."""
        return (features - self.feature_mean) * self.feature_scale

    @abstractmethod
    def forward(self, batch: CaptionBatch) -> Tensor:
        """The hidden vector of every row of a packed batch: (P, M)."""

    @abstractmethod
    def start(self, features: Tensor) -> State:
        """The state before the first word: (n, D) stored features of the image of each of n hypotheses."""

    @abstractmethod
    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Read the next word of each hypothesis, START first: (n,) int64 and a state -> hidden (n, M), new state."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights on the CPU from one generator, as the config says."""


class LateFusion(Captioner):
    """hidden_t = fusion(language_t + image): the words never see the image, the image never sees the words.

    So the language half of a sentence is computed once for all images, and the image half once for all sentences.
    memory_size : numbers that the language half carries from word to word; it begins as zeros.
    """

    fusion: ScaledTanh
    memory_size: int

    @abstractmethod
    def image(self, features: Tensor) -> Tensor:
        """What an image contributes to the hidden layer: (..., D) -> (..., M)."""

    @abstractmethod
    def language(self, words: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What the sentence so far contributes, once it has read these words.

        words : (n,) int64. memory : (n, memory_size). Returns (n, M) and the new memory.
        """

    @abstractmethod
    def fuse(self, language: Tensor, image: Tensor) -> Tensor:
        """The hidden vector, fusion(language + image), with dropout in training: two (..., M) -> (..., M)."""

    def start(self, features: Tensor) -> State:
        """See `Captioner`: the image half and an empty memory."""
        image = self.image(features)
        return image, image.new_zeros(len(image), self.memory_size)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Captioner`."""
        image, memory = state
        language, memory = self.language(words, memory)
        return self.fuse(language, image), (image, memory)
