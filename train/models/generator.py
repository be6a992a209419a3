"""The caption generator of DVSA, Karpathy and Fei-Fei 2015 (arXiv 1412.2306), Eqs. 13 to 15.

    b_v = W_hi I                                                       Eq. 13
    h_t = ReLU(W_hx x_t + W_hh h_{t-1} + b_h + 1[t = 1] b_v)           Eq. 14; h_0 = 0, x_1 = START
    P(w_{t+1} | w_1..w_t, I) = softmax(W_oh h_t + b_o)                 Eq. 15

The image enters at the first step only, so every later state depends on it. Unlike in m-RNN, there is no language half
to compute once for all images: scoring a pair takes the whole recurrence.
"""

import torch
from torch import Tensor, nn

from mrnn.train.batches import CaptionBatch
from mrnn.train.initialise import initialise_captioner
from mrnn.train.models.captioner import Captioner, State
from mrnn.train.models.captioner_configs import GeneratorConfig
from mrnn.train.models.layers import Dropout, Projection, recur_packed


class Generator(Captioner):
    """The DVSA generator.

    Dropout is applied as in NeuralTalk: to x_t, to I, and to h_t before W_oh, but not between h_{t-1} and h_t.
    """

    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.word_to_hidden = Projection(config.embedding, config.hidden)
        self.hidden_bias = nn.Parameter(torch.zeros(config.hidden))
        self.recurrence = Projection(config.hidden, config.hidden)
        self.image_to_hidden = Projection(config.features, config.hidden)
        self.output = nn.Linear(config.hidden, config.vocabulary)
        self.dropout = Dropout(config.dropout)
        self.image_dropout = Dropout(config.image_dropout)

    def words(self, tokens: Tensor) -> Tensor:
        """W_hx x_t + b_h for word numbers: (n,) int64 -> (n, H)."""
        vectors = self.word_to_hidden(self.dropout(self.embedding(tokens)))
        return vectors + self.hidden_bias.to(vectors.dtype)

    def image(self, features: Tensor) -> Tensor:
        """b_v of stored features: (n, D) -> (n, H)."""
        return self.image_to_hidden(self.image_dropout(self.centred(features)))

    def forward(self, batch: CaptionBatch) -> Tensor:
        """h_t of every row of a packed batch: (P, H). The rows of the first step come first."""
        # 1[t = 1] b_v: only the rows of the first step get the image.
        words, first = self.words(batch.inputs), batch.sizes[0]
        image = self.image(batch.features).index_select(0, batch.image_of_token[:first])
        inputs = torch.cat([words[:first] + image.to(words.dtype), words[first:]])
        return self.dropout(recur_packed(inputs, self.recurrence.weight, batch.sizes))

    def start(self, features: Tensor) -> State:
        """See `Captioner`: b_v, which the first step consumes, and h_0."""
        image = self.image(features)
        return image, torch.zeros_like(image)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Captioner`."""
        image, before = state
        hidden = torch.relu(self.words(words) + image + self.recurrence(before))
        return self.dropout(hidden), (torch.zeros_like(image), hidden)  # 1[t = 1]: no b_v from the second step on

    def initialise(self, generator: torch.Generator) -> None:
        """See `Captioner`."""
        initialise_captioner(self, self.config, generator, embedding="embedding", recurrence="recurrence")
