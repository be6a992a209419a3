"""First-order scores are what they say: values and gradients at the anchors, nothing else, laid out right."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnn.evaluate.retrieval.late_fusion import LateFusionScorer
from mrnn.evaluate.retrieval.one_sentence import score_sentence
from mrnn.evaluate.retrieval.prefix_tree import build_prefix_tree
from mrnn.evaluate.search.index import nearly_exact_priors, score_chosen
from mrnn.evaluate.search.shortlist import (
    ImageVectors,
    choose_anchors,
    expand,
    first_order_of_sentences,
    nearest_anchors,
)
from mrnn.train.models.captioner import LateFusion
from tests.variants import FUSED, FUSED_IDS

Build = Callable[..., LateFusion]
SENTENCES = [[2, 3], [2, 3, 4, 5], [], [7], [2, 9, 9, 9], [2, 3]]


def score(model: LateFusion, sentence: list[int], vector: Tensor) -> Tensor:
    """log P(w | I) as a function of the image's vector, word by word, differentiable."""
    memory, total = vector.new_zeros(1, model.memory_size), vector.new_zeros(())
    for word, target in zip([0, *sentence], [*sentence, 0], strict=True):
        language, memory = model.language(torch.tensor([word]), memory)
        logits = model.output(model.fuse(language, vector))
        total = total + logits.log_softmax(-1)[0, target]
    return total


@pytest.fixture
def vectors() -> Tensor:
    return torch.randn(40, 24, generator=torch.Generator().manual_seed(0), dtype=torch.double)


@pytest.mark.parametrize(("kind", "variant"), FUSED, ids=FUSED_IDS)
def test_expansions_are_values_and_gradients(
    kind: str, variant: dict[str, Any], build_model: Build, vectors: Tensor
) -> None:
    model, anchors = build_model(kind=kind, double=True, **variant), vectors[:3]
    expansions = expand(model, SENTENCES, anchors)
    for c, anchor in enumerate(anchors):
        for s, sentence in enumerate(SENTENCES):
            at = anchor.clone().requires_grad_()
            value = score(model, sentence, at)
            (gradient,) = torch.autograd.grad(value, at)
            np.testing.assert_allclose(expansions.values[c, s], value.item(), rtol=1e-12)
            np.testing.assert_allclose(expansions.gradients[c, s], gradient.numpy(), rtol=1e-9, atol=1e-12)
    assert np.abs(expansions.gradients).max() > 0.1, "there is something to compare"


@pytest.mark.parametrize("nodes", [3, 13, 40], ids=["one anchor at a time", "some", "all"])
def test_expansions_do_not_depend_on_the_parts(
    build_model: Build, vectors: Tensor, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    model = build_model()
    whole = expand(model, SENTENCES, vectors[:5].float())
    monkeypatch.setattr("mrnn.evaluate.search.shortlist.NODES", nodes)
    parts = [expand(model, SENTENCES[i : i + 2], vectors[:5].float()) for i in range(0, len(SENTENCES), 2)]
    np.testing.assert_allclose(np.concatenate([p.values for p in parts], 1), whole.values, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([p.gradients for p in parts], 1), whole.gradients, atol=1e-5)


def test_first_order_is_exact_at_an_anchor_and_off_by_the_square_beside_it(build_model: Build) -> None:
    model = build_model(double=True)
    anchor, direction = torch.randn(2, 24, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    expansions = expand(model, SENTENCES, anchor[None])

    def error(step: float) -> float:
        at = anchor + step * direction
        first = first_order_of_sentences(expansions, anchor[None], at[None])[0]
        return float(np.abs(first - [score(model, s, at).item() for s in SENTENCES]).max())

    assert error(0) < 1e-5
    assert 3 < error(0.04) / error(0.02) < 5, "half the step, a quarter of the error"


def test_both_directions_agree_with_the_definition(build_model: Build, vectors: Tensor) -> None:
    model, vectors = build_model(), vectors.float()
    gallery = ImageVectors.build(vectors, anchors=5)
    expansions = expand(model, SENTENCES, gallery.anchors)
    distances = torch.cdist(vectors, gallery.anchors)
    expected = [
        expansions.values[c] + expansions.gradients[c] @ (vector - gallery.anchors[c]).numpy()
        for vector, c in zip(vectors, distances.argmin(1).tolist(), strict=True)
    ]
    np.testing.assert_allclose(gallery.first_order(expansions).numpy().T, expected, atol=1e-4)
    np.testing.assert_allclose(first_order_of_sentences(expansions, gallery.anchors, vectors), expected, atol=1e-4)


def test_more_anchors_are_closer_to_the_exact_scores(build_model: Build, vectors: Tensor) -> None:
    model, vectors = build_model(), vectors.float()
    exact = np.array([score_sentence(model, sentence, vectors) for sentence in SENTENCES])
    errors = []
    for count in (1, 8, 40):
        gallery = ImageVectors.build(vectors, anchors=count)
        errors.append(np.abs(gallery.first_order(expand(model, SENTENCES, gallery.anchors)).numpy() - exact).mean())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4, "every image is its own anchor"


@pytest.mark.parametrize("kind", ["mrnn", "transformer"])
def test_one_sentence_under_many_images_equals_many_under_one(kind: str, build_model: Build) -> None:
    model = build_model(kind=kind)
    features = torch.randn(70, 12, generator=torch.Generator().manual_seed(2))
    scorer = LateFusionScorer(model, build_prefix_tree(SENTENCES))
    expected = np.stack([scorer.score(feature) for feature in features])
    with torch.inference_mode():
        vectors = model.image(features)
    found = np.stack([score_sentence(model, sentence, vectors) for sentence in SENTENCES], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["mrnn", "transformer"])
def test_each_sentence_under_images_of_its_own(kind: str, build_model: Build) -> None:
    model = build_model(kind=kind)
    with torch.inference_mode():
        vectors = model.image(torch.randn(70, 12, generator=torch.Generator().manual_seed(2)))
    images = np.random.default_rng(0).integers(0, 70, (len(SENTENCES), 5))
    images[1] = images[0]  # neighbours often have the same ones
    found = score_chosen(model, [np.array(sentence, dtype=np.int64) for sentence in SENTENCES], vectors, images)
    expected = [score_sentence(model, each, vectors[rows]) for each, rows in zip(SENTENCES, images, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_nearly_exact_priors(build_model: Build, vectors: Tensor) -> None:
    model, vectors = build_model(), vectors.float()
    sentences = [np.array(sentence, dtype=np.int64) for sentence in SENTENCES]
    anchors = choose_anchors(vectors, 4)
    first = first_order_of_sentences(expand(model, sentences, anchors), anchors, vectors)
    exact = np.stack([score_sentence(model, sentence, vectors) for sentence in sentences], axis=1)
    expected = np.log(np.exp(exact).mean(axis=0))
    errors = [
        np.abs(nearly_exact_priors(model, sentences, vectors, first, exact=count) - expected).max()
        for count in (1, 10, 40)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5, "all of them exact"


def test_anchors_are_centres_of_what_is_nearest(vectors: Tensor) -> None:
    clusters = torch.cat([vectors * 0.01 + 5 * torch.eye(24)[i] for i in range(3)]).float()
    anchors = choose_anchors(clusters, 3, seed=1)
    members = nearest_anchors(clusters, anchors)
    assert members.bincount().tolist() == [40, 40, 40]
    for number in range(3):
        torch.testing.assert_close(anchors[number], clusters[members == number].mean(0))
    torch.testing.assert_close(choose_anchors(clusters, 1), clusters.mean(0, keepdim=True))
    assert torch.equal(choose_anchors(clusters, 3, seed=1), anchors), "a seed, one result"


def test_no_more_anchors_than_different_vectors() -> None:
    assert len(choose_anchors(torch.ones(7, 4), 3)) == 1
    assert len(choose_anchors(torch.eye(4).repeat(2, 1), 64)) == 4
