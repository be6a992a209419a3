"""m-RNN with the image in the recurrent layer: the ablations of the ICLR paper (arXiv 1412.6632).

    r(t) = ReLU(U r(t-1) + w(t) + V_J I)              or a GRU or an LSTM of w(t) + V_J I
    m(t) = g(V_w w(t) + V_r r(t) [+ V_I I])           V_I I with --image-into both and both-shared

The paper found captions far worse than with the image in the multimodal layer alone. It says "shared weights" without
saying how, while the two layers differ in width; here V_J is then the first rows of V_I, so the recurrent layer gets
the first values of V_I I.

Every state depends on the image, so this is no LateFusion model: there is no language half to compute once.
"""

from torch import Tensor

from mrnn.train.batches import CaptionBatch
from mrnn.train.models.captioner import State
from mrnn.train.models.captioner_configs import ImageRecurrentConfig
from mrnn.train.models.layers import Projection
from mrnn.train.models.mrnn import MRNNLayers


class ImageRecurrent(MRNNLayers):
    """m-RNN whose recurrent layer sees the image at every word."""

    config: ImageRecurrentConfig

    def __init__(self, config: ImageRecurrentConfig) -> None:
        super().__init__(config)
        if config.image_into != "both-shared":
            self.image_to_recurrent = Projection(config.features, config.embedding2)
        if config.image_into == "recurrent":
            del self.image_to_multimodal

    def images(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """V_J I and V_I I (0 if the multimodal layer does not see it): (n, D) -> (n, embedding2), (n, M)."""
        image = self.image_dropout(self.centred(features))
        if self.config.image_into == "recurrent":
            return self.image_to_recurrent(image), image.new_zeros(image.shape[0], self.config.multimodal)
        multimodal = self.image_to_multimodal(image)
        if self.config.image_into == "both-shared":
            return multimodal[:, : self.config.embedding2], multimodal
        return self.image_to_recurrent(image), multimodal

    def forward(self, batch: CaptionBatch) -> Tensor:
        """m(t) of every row of a packed batch: (P, M)."""
        words = self.words(batch.inputs)
        images = self.images(batch.features)
        to_recurrent, to_multimodal = (part.index_select(0, batch.image_of_token) for part in images)
        recurrent = self.recur_packed(words + to_recurrent.to(words.dtype), batch.sizes)
        return self.fuse(self.combine(words, recurrent), to_multimodal)

    def start(self, features: Tensor) -> State:
        """See `Captioner`: what the two layers get of the image, and an empty memory."""
        to_recurrent, to_multimodal = self.images(features)
        return to_recurrent, to_multimodal, to_recurrent.new_zeros(features.shape[0], self.memory_size)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Captioner`."""
        to_recurrent, to_multimodal, memory = state
        vectors = self.words(words)
        memory = self.recur(vectors + to_recurrent, memory)
        return self.fuse(self.combine(vectors, memory), to_multimodal), (to_recurrent, to_multimodal, memory)
