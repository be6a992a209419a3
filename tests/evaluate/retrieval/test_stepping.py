"""The slow exact scorer equals teacher forcing, whatever the kind of captioner."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mrnn.evaluate.retrieval import stepping
from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.pair_scorer import captioner_pairs, in_order
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.retrieval.stepping import SteppingScorer
from mrnn.train.batches import CaptionBatch
from mrnn.train.models.captioner import Captioner
from tests.evaluate.retrieval.test_late_fusion import invented_sentences
from tests.variants import VARIANTS

Build = Callable[..., Captioner]
KINDS = ("mrnn", "generator", "transformer", "mlbl-b", "mlbl-f", "mrnn-image-recurrent")
EVERY = (*KINDS, *VARIANTS)


def teacher_forced(model: Captioner, feature: torch.Tensor, sentence: list[int]) -> float:
    """log P(w | I) by the model's own packed pass over one sentence."""
    inputs, targets = torch.tensor([0, *sentence]), torch.tensor([*sentence, 0])
    batch = CaptionBatch(
        sentences=np.zeros(1),
        count=len(inputs),
        inputs=inputs,
        targets=targets,
        sizes=[1] * len(inputs),
        image_of_token=torch.zeros(len(inputs), dtype=torch.int64),
        features=feature[None],
    )
    return model.output(model(batch)).log_softmax(-1).gather(1, targets[:, None]).sum().item()


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rows", [1, 7, 1024])
def test_equals_teacher_forcing(
    name: str, rows: int, build_model: Build, features: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "ROWS", rows)
    model, sentences = (
        build_model(kind=name.split(" ")[0], double=True, **VARIANTS.get(name, {})),
        invented_sentences(40, 40),
    )
    scorer = SteppingScorer(model, build_prefix_tree(sentences))
    expected = [[teacher_forced(model, feature, sentence) for sentence in sentences] for feature in features]
    found = np.stack([*in_order(scorer.score, features, device=scorer.device, threads=2)])
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", EVERY)
def test_some_sentences_score_as_among_all_and_the_others_are_no_numbers(
    name: str, build_model: Build, features: torch.Tensor
) -> None:
    sentences, chosen = invented_sentences(30, 40), np.array([0, 4, 5, 21])
    scorer = SteppingScorer(
        build_model(kind=name.split(" ")[0], double=True, **VARIANTS.get(name, {})), build_prefix_tree(sentences)
    )
    whole, some = scorer.score(features[0]), scorer.score(features[0], chosen)
    np.testing.assert_allclose(some[chosen], whole[chosen], atol=1e-12, rtol=0)
    assert np.isnan(np.delete(some, [*chosen, 1, 2])).all()  # sentences 1 and 2 are equal, and parts of others' paths
    assert scorer.work(chosen) < scorer.work() == len(scorer.tree.node_words)


@pytest.mark.parametrize("kind", ["mrnn", "transformer"])
def test_agrees_with_the_scorer_of_late_fusion(kind: str, build_model: Build, features: torch.Tensor) -> None:
    model, tree = build_model(kind=kind, double=True), build_prefix_tree(invented_sentences(30, 40))
    slow, fast = SteppingScorer(model, tree), LateFusionScorer(model, tree)
    np.testing.assert_allclose(slow.score(features[1]), fast.score(features[1]), atol=1e-9, rtol=0)


def test_it_can_be_stopped_and_refuses_training_mode(build_model: Build, features: torch.Tensor) -> None:
    def stop() -> None:
        raise InterruptedError

    tree = build_prefix_tree([[2, 3], [2]])
    with pytest.raises(InterruptedError):
        SteppingScorer(build_model(kind="generator", double=True), tree).score(features[0], check=stop)
    with pytest.raises(ValueError, match="eval mode"):
        SteppingScorer(build_model(kind="generator").train(), tree)


def test_the_scorer_of_a_kind_is_the_fastest_that_it_allows(build_model: Build) -> None:
    class Table:
        def __getitem__(self, images: np.ndarray) -> torch.Tensor:
            return torch.zeros(len(images), 12)

    found = {kind: captioner_pairs(build_model(kind=kind), [[2]], Table()) for kind in KINDS}  # type: ignore[arg-type]
    fast = {kind for kind in KINDS if isinstance(found[kind].scorer, LateFusionScorer)}
    assert fast == {"mrnn", "transformer"}
    assert all(isinstance(found[kind].scorer, SteppingScorer) for kind in set(KINDS) - fast)
    assert found["generator"].score(0).shape == (1,)
