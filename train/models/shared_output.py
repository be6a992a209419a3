"""Transposed weight sharing: an output layer made of the word embedding (Mao et al., ICCV 2015, arXiv 1504.06692)."""

import torch
from torch import Tensor, nn

from mrnn.train.models.layers import Projection
from mrnn.train.products import linear


class SharedOutput(nn.Module):
    """softmax(U_D^T U_I m + b): the word vectors U_D score U_I m, so an output layer has V parameters of its own.

    The paper writes U_D^T f(U_I m); f is the identity here. So U_D^T U_I is an output weight like any other, and
    everything that is built on the output layer (losses, decoding, exact retrieval and its bounds, reasons) stays as
    it is.

    words : the embedding, a layer of the model that has this one.
    inputs : M, width of the multimodal layer.
    """

    _kept: Tensor | None

    def __init__(self, words: nn.Embedding, inputs: int) -> None:
        super().__init__()
        self._words = (words,)  # in a tuple, which nn.Module does not search: its weights belong to the model
        self.projection = Projection(inputs, words.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))
        self.register_buffer("_kept", None, persistent=False)

    @property
    def weight(self) -> Tensor:
        """U_D^T U_I: (V, M). In evaluation it is computed once, at its first use after `eval()`."""
        if self.training or torch.is_grad_enabled():
            return self._product()
        if self._kept is None:
            self._kept = self._product()
        return self._kept

    def _product(self) -> Tensor:
        words = self._words[0].weight
        with torch.autocast(words.device.type, enabled=False):  # float32, as the weight of every output layer
            return linear(words, self.projection.weight.t())

    def forward(self, hidden: Tensor) -> Tensor:
        """The logits: (..., M) -> (..., V)."""
        return nn.functional.linear(hidden, self.weight, self.bias)

    def train(self, mode: bool = True) -> "SharedOutput":
        """See nn.Module; forgets the product, since training changes the weights."""
        self._kept = None
        return super().train(mode)
