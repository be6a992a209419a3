"""m-RNN's fusion with a causal Transformer (Vaswani et al. 2017, arXiv 1706.03762) as the language half.

    x(t) = E[w_t] + P[t]                             learned vectors of words and of positions
    x(t) = x(t) + W_o attention(W_q y, W_k y, W_v y)(t)             y = norm(x), in each layer
    x(t) = x(t) + W_2 ReLU(W_1 norm(x(t)))                          4 times as wide inside
    m(t) = g(V_h norm(x(t)) + V_I I)                 multimodal layer as in m-RNN; g(x) = 1.7159 tanh(2x/3)
    P(w_{t+1} | w_1..w_t, I) = softmax(O m(t) + b)

Attention reaches from a word to itself and the words before it. The norms stand before each part (pre-norm: Xiong et
al. 2020, arXiv 2002.04745) and have no gains or biases, which the matrices that follow can take over. As in m-RNN, no
layer but the output has a bias, and the words do not see the image, so this is a LateFusion model.

A word sees the last `context` words, START included. In a longer sentence, every later word reads the `context` words
up to itself as if a sentence began there. So the model needs a fixed number of positions, and no sentence is too long.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mrnn.train.batches import CaptionBatch, as_table
from mrnn.train.initialise import draw_weights
from mrnn.train.models.captioner import LateFusion
from mrnn.train.models.captioner_configs import TransformerConfig
from mrnn.train.models.layers import Dropout, Projection

READ = 4096  # words read at a time outside training: 17 MB in the widest layer at width 256


class Transformer(LateFusion):
    """A LateFusion captioner whose language half is a causal Transformer.

    Its memory holds the words read so far, each number plus one, and zeros after them. Every step reads them again. A
    cache of keys and values would save that, but takes 2 x layers x context x width numbers (a quarter of a megabyte)
    for each of the thousands of prefixes and hypotheses that are kept, where the words take `context` numbers.

    Dropout is applied to x(0), to what each part adds to x, and to m(t), but not to the attention weights.
    """

    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.memory_size = config.context
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.zeros(config.context, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.words_to_multimodal = Projection(config.width, config.multimodal)
        self.image_to_multimodal = Projection(config.features, config.multimodal)
        self.output = nn.Linear(config.multimodal, config.vocabulary)
        self.dropout = Dropout(config.dropout)
        self.image_dropout = Dropout(config.image_dropout)

    def read(self, words: Tensor) -> Tensor:
        """norm(x(t)) of at most `context` words each: (n, T) int64 -> (n, T, W)."""
        x = self.dropout(self.embedding(words) + self.positions[: words.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return norm(x)

    def language(self, words: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """See `LateFusion`; the memory is the words so far."""
        count = (memory > 0).sum(1)
        full = count == self.config.context
        memory = torch.where(full[:, None], memory.roll(-1, 1), memory)  # forgets the first word
        last = count - full.long()  # place of the new word
        memory = memory.scatter(1, last[:, None], (words + 1).to(memory.dtype)[:, None])
        exporting = torch.compiler.is_exporting()  # in a program of torch.export, no shape depends on values
        length = self.config.context if exporting else int(last.max()) + 1
        read = memory[:, :length].long().sub_(1).clamp_(min=0)  # what follows the last word is not seen
        rows = max(1, READ // length)
        parts = [(read, last)] if exporting else zip(read.split(rows), last.split(rows), strict=True)
        states = [self.read(part)[torch.arange(part.shape[0], device=part.device), place] for part, place in parts]
        return self.words_to_multimodal(torch.cat(states)), memory

    def language_packed(self, batch: CaptionBatch) -> Tensor:
        """See `LateFusion`."""
        words, places = as_table(batch)
        context = self.config.context
        states = self.read(words[:, :context])
        if words.shape[1] > context:
            # Every later word with the words before it, of the sentences that go on: these come first.
            windows = words[: batch.sizes[context]].unfold(1, context, 1)[:, 1:]
            later = self.read(windows.flatten(0, 1))[:, -1].unflatten(0, windows.shape[:2])
            missing = len(words) - len(later)
            states = torch.cat([states, functional.pad(later, (0, 0, 0, 0, 0, missing))], 1)
        return self.words_to_multimodal(states.flatten(0, 1).index_select(0, places))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """See `Captioner`."""
        draw_weights(self, generator, embedding="embedding", embedding_scale=self.config.embedding_scale)
        self.output.weight.mul_(self.config.output_scale)


class Layer(nn.Module):
    """Causal self-attention and a network of each word by itself, both added to their input: (n, T, W) -> (n, T, W)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.queries_keys_values = Projection(width, 3 * width)
        self.from_heads = Projection(width, width)
        self.widen = Projection(width, 4 * width)
        self.narrow = Projection(4 * width, width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.queries_keys_values(norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads.unbind()  # each (n, heads, T, W / heads)
        seen = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.dropout(self.from_heads(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.narrow(torch.relu(self.widen(norm(x)))))


def norm(x: Tensor) -> Tensor:
    """(x - mean) / deviation of each vector: (..., W) -> (..., W)."""
    return functional.layer_norm(x, x.shape[-1:])
