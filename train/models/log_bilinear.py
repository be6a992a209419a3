"""The log-bilinear models that the m-RNN paper compares with: LBL, MLBL-B and MLBL-F.

LBL is that of Mnih and Hinton 2007; MLBL-B and MLBL-F are those of Kiros, Salakhutdinov and Zemel, Multimodal Neural
Language Models, ICML 2014. A word is predicted from the `context` words before it, w_1 the oldest:

    LBL     r = sum_i C_i R[w_i]                          R[w]: the vector of a word, K numbers; C_i: K x K
            P(w | w_1..w_n) = softmax_w(R[w] . r + b_w)

    MLBL-B  x = ReLU(J I + h)                             the image layer
            r = sum_i C_i R[w_i] + C_m x                  the image as a bias

    MLBL-F  R[w] = W_k^T W_v[w]                           W_k: F x K; W_v: V x F, F factors
            r = sum_i C_i R[w_i] + C_m x
            P(w | w_1..w_n, I) = softmax_w(W_v[w] . f + b_w),     f = (W_k r) * (W_d x)     the image as a gate

The equations are from memory of the paper; a public implementation in numpy (classes MLBL and MLBLF) agrees with them,
the image layer and the C_m of MLBL-F included. Chosen here: before the start of a sentence stands START, as often as
needed, as in n-gram models; the initial weights; dropout; the centred feature as I (Model).

Nothing in r or f is squashed, so there is no sum inside a `fusion` and none of these is a LateFusion model: retrieval
scores every pair by a pass of its own. CONTRIBUTING.md explains the letters.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mrnn.data.vocabulary import BOUNDARY_ID
from mrnn.train.batches import CaptionBatch, as_table
from mrnn.train.initialise import draw_weights
from mrnn.train.models.captioner import Captioner, State
from mrnn.train.models.captioner_configs import LBLConfig, MLBLConfig, MLBLFConfig
from mrnn.train.models.layers import Dropout, Projection
from mrnn.train.products import linear


class LBL(Captioner):
    """LBL, which does not look at the image. The weight of the output layer is R.

    The state is what the image contributes, then the last `context` words. Dropout is applied to R[w_i] and to what
    the output layer reads.
    """

    config: LBLConfig
    sees_images = False

    def __init__(self, config: LBLConfig) -> None:
        super().__init__(config)
        self.output = nn.Linear(config.embedding, config.vocabulary)
        self.contexts = Projection(config.context * config.embedding, config.embedding)  # C_1..C_n side by side
        self.dropout = Dropout(config.dropout)

    def vectors(self, words: Tensor) -> Tensor:
        """R[w]: (...) int64 -> (..., K)."""
        return functional.embedding(words, self.output.weight)

    def image(self, features: Tensor) -> State:
        """What the image contributes, for stored features (n, D): tensors of n rows."""
        return ()

    def hidden(self, predicted: Tensor, *image: Tensor) -> Tensor:
        """The hidden vector from sum_i C_i R[w_i], (n, K), and the rows of `image`."""
        return self.dropout(predicted)

    def predict(self, words: Tensor, *image: Tensor) -> Tensor:
        """The hidden vector after the words (n, context), oldest first, and the rows of `image`: (n, M)."""
        return self.hidden(self.contexts(self.dropout(self.vectors(words)).flatten(1)), *image)

    def forward(self, batch: CaptionBatch) -> Tensor:
        """The hidden vector of every row of a packed batch: (P, M)."""
        words, places = as_table(batch)
        padded = functional.pad(words, (self.config.context - 1, 0), value=BOUNDARY_ID)
        last = padded.unfold(1, self.config.context, 1).flatten(0, 1).index_select(0, places)
        image = self.image(batch.features)
        return self.predict(last, *(part.index_select(0, batch.image_of_token) for part in image))

    def start(self, features: Tensor) -> State:
        """See `Captioner`: before the first word there is START, again and again."""
        nothing = torch.full((features.shape[0], self.config.context), BOUNDARY_ID, device=features.device)
        return *self.image(features), nothing

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Captioner`."""
        *image, last = state
        last = torch.cat([last[:, 1:], words[:, None]], 1)
        return self.predict(last, *image), (*image, last)

    def initialise(self, generator: torch.Generator) -> None:
        """See `Captioner`."""
        draw_weights(self, generator, embedding="output", embedding_scale=self.config.embedding_scale)


class MLBLB(LBL):
    """MLBL-B: the image is a bias of r."""

    config: MLBLConfig
    sees_images = True

    def __init__(self, config: MLBLConfig) -> None:
        super().__init__(config)
        self.image_layer = nn.Linear(config.features, config.hidden)  # J and h
        self.image_to_word = Projection(config.hidden, config.embedding)  # C_m
        self.image_dropout = Dropout(config.image_dropout)

    def look(self, features: Tensor) -> Tensor:
        """x of stored features: (n, D) -> (n, H)."""
        return torch.relu(self.image_layer(self.image_dropout(self.centred(features))))

    def image(self, features: Tensor) -> State:
        """C_m x: (n, K)."""
        return (self.image_to_word(self.look(features)),)

    def hidden(self, predicted: Tensor, *image: Tensor) -> Tensor:
        """r: (n, K)."""
        (bias,) = image
        return self.dropout(predicted + bias)


class MLBLF(MLBLB):
    """MLBL-F: the image is a bias of r and a gate of the factors. The weight of the output layer is W_v."""

    config: MLBLFConfig

    def __init__(self, config: MLBLFConfig) -> None:
        super().__init__(config)
        self.output = nn.Linear(config.factors, config.vocabulary)
        self.word_to_factors = Projection(config.embedding, config.factors)  # W_k
        self.image_to_factors = Projection(config.hidden, config.factors)  # W_d

    def vectors(self, words: Tensor) -> Tensor:
        """W_k^T W_v[w]: (...) int64 -> (..., K)."""
        return linear(super().vectors(words), self.word_to_factors.weight.t())

    def image(self, features: Tensor) -> State:
        """C_m x, (n, K), and W_d x, (n, F)."""
        seen = self.look(features)
        return self.image_to_word(seen), self.image_to_factors(seen)

    def hidden(self, predicted: Tensor, *image: Tensor) -> Tensor:
        """f: (n, F)."""
        bias, gate = image
        return self.dropout(self.word_to_factors(predicted + bias) * gate)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """See `Captioner`. h is 1, so that gates differ between images by little at first."""
        super().initialise(generator)
        self.image_layer.bias.fill_(1)
