"""The alignment model of DVSA, Karpathy and Fei-Fei 2015 (arXiv 1412.2306), Eqs. 1 to 8.

    x_t  = word vector of the t-th word                       Eq. 2
    e_t  = f(W_e x_t + b_e)                                   Eq. 3
    hf_t = f(e_t + W_f hf_{t-1} + b_f)                        Eq. 4, left to right
    hb_t = f(e_t + W_b hb_{t+1} + b_b)                        Eq. 5, right to left
    s_t  = f(W_d (hf_t + hb_t) + b_d)                         Eq. 6

with f = ReLU; Eqs. 1, 7 and 8 are in two_towers.py. Dropout is on x_t, on I and on hf_t + hb_t, never on the way from
one word to the next.
"""

import torch
from torch import Tensor, nn

from mrnn.train.initialise import draw_recurrence, draw_weights
from mrnn.train.models.layers import Projection, recur_packed
from mrnn.train.models.matching_configs import RegionConfig
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pairs import PackedWords


class Alignment(TwoTowers):
    """Regions and words by a bidirectional recurrent network. Its streams are summed, not concatenated."""

    config: RegionConfig

    def __init__(self, config: RegionConfig) -> None:
        super().__init__(config)
        self.word_to_hidden = Projection(config.embedding, config.hidden)
        self.hidden_bias = nn.Parameter(torch.zeros(config.hidden))
        self.forwards = Projection(config.hidden, config.hidden)
        self.forwards_bias = nn.Parameter(torch.zeros(config.hidden))
        self.backwards = Projection(config.hidden, config.hidden)
        self.backwards_bias = nn.Parameter(torch.zeros(config.hidden))
        self.hidden_to_joint = Projection(config.hidden, config.joint)
        self.joint_bias = nn.Parameter(torch.zeros(config.joint))

    def words(self, packed: PackedWords) -> Tensor:
        """See `TwoTowers`. The backward stream is a forward one on rows mirrored within each sentence."""
        embedded = self.word_to_hidden(self.dropout(self.embedding(packed.tokens)))
        encoded = torch.relu(embedded + self.hidden_bias.to(embedded.dtype))
        ahead = encoded + self.forwards_bias.to(encoded.dtype)
        behind = (encoded + self.backwards_bias.to(encoded.dtype)).index_select(0, packed.mirrored)
        ahead = recur_packed(ahead, self.forwards.weight, packed.sizes)
        behind = recur_packed(behind, self.backwards.weight, packed.sizes).index_select(0, packed.mirrored)
        joint = self.hidden_to_joint(self.dropout(ahead + behind))
        return torch.relu(joint + self.joint_bias.to(joint.dtype))

    def initialise(self, generator: torch.Generator) -> None:
        """See `Model`."""
        draw_weights(self, generator, embedding="embedding", embedding_scale=self.config.embedding_scale)
        for recurrence in (self.forwards, self.backwards):
            draw_recurrence(recurrence.weight, self.config, generator)
