"""Captions of regions against the phrases that people name them by: Table 3 of DVSA (arXiv 1412.2306).

The regions are boxes of the data set (mrnn.evaluate.generation.region_phrases). A model that writes captions describes
each from its features alone, whether it learned from regions or from whole pictures. An alignment model gives each the
training segment that suits it best. Beside them stands the agreement between people: of the regions that several people
name, one phrase against those of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mrnn.data.progress import Progress
from mrnn.evaluate.generation.decode import DecodingConfig
from mrnn.evaluate.generation.region_phrases import NamedRegion, Words, named_regions, people
from mrnn.evaluate.generation.stage import decode_all, decoding_settings
from mrnn.evaluate.grounding.best_segments import best_segments
from mrnn.evaluate.metrics.captions import CaptionScores, score_captions
from mrnn.evaluate.metrics.names import CAPTION_SCORES
from mrnn.evaluate.stages import Evaluation
from mrnn.train.features import Features
from mrnn.train.models.captioner import Predictor
from mrnn.train.segment_files import SegmentFile

NAME = "regions"
DEFINITION = (
    "captions of the regions of the cache that are boxes with phrases, scored as those of images are, on plain words; "
    "the references of a region are all phrases that name it; model: what the model writes for the region's features, "
    "or of an alignment model the training segment with the largest sum of v.s over its words; people: of regions that "
    "phrases of several sentences name, one phrase, drawn with the seed, against those of the other sentences; "
    "beside_people: the model's captions of these regions against the same phrases"
)


def regions_stage(
    evaluation: Evaluation,
    config: DecodingConfig,
    *,
    prefix: Sequence[str] = (),
    segments: SegmentFile | None = None,
    run: bool = True,
) -> dict[str, Any] | None:
    """Scores of the captions of regions, as in metrics.json, with the `captions` themselves and `per_image`.

    evaluation : of a model and a cache that mrnn.evaluate.fit.why_no_regions has no objection to
    config, prefix : how captions are written; the seed draws the phrases that stand for people
    segments : what an alignment model chooses from
    run : as for mrnn.evaluate.stages.perplexity_stage

    Returns None where run is False and an earlier call did not finish.
    """
    settings = {**decoding_settings(config, prefix), "segments_sha256": segments.sha256 if segments else ""}
    stored: dict[str, Any] | None = evaluation.parts.load(NAME, settings)
    if stored is not None or not run:
        return stored
    regions = named_regions(evaluation.cache, evaluation.images)
    if isinstance(evaluation.trained.model, Predictor):
        said = generated(evaluation, regions, config, prefix=prefix)
    else:
        assert segments is not None
        said = chosen_segments(evaluation, regions, segments)
    stored = summarise(evaluation, regions, said, seed=config.seed)
    evaluation.parts.save(NAME, settings, stored)
    return stored


def generated(
    evaluation: Evaluation, regions: Sequence[NamedRegion], config: DecodingConfig, *, prefix: Sequence[str]
) -> list[tuple[Words, float]]:
    """The model's caption of each region, and its natural log P."""
    beams = decode_all(
        evaluation,
        config,
        Features(evaluation.cache, budget=0, by_row=True),
        np.array([region.row for region in regions]),
        ids=[region.name for region in regions],
        prefix=prefix,
        name="region-captions",
        label="captions of regions",
        run=True,
    )
    assert beams is not None
    return [(evaluation.trained.vocabulary.decode(best.words), best.log_prob) for best, *_ in beams]


def chosen_segments(
    evaluation: Evaluation, regions: Sequence[NamedRegion], segments: SegmentFile
) -> list[tuple[Words, float]]:
    """The words of the training segment that an alignment model finds best for each region, and their score."""
    training, cache = segments.of("train"), evaluation.cache
    with Progress("training segments", len(training), unit="segments") as progress:

        def after_part(count: int) -> None:
            progress.add(count)
            evaluation.check_stop()

        rows = [region.row for region in regions]
        chosen, scores = best_segments(evaluation.trained, cache, rows, training, after_part=after_part)
    return [*zip(training[chosen].words(cache), scores.tolist(), strict=True)]


def summarise(
    evaluation: Evaluation, regions: Sequence[NamedRegion], said: Sequence[tuple[Words, float]], *, seed: int
) -> dict[str, Any]:
    """What `regions_stage` returns. said : the caption of each region, and its score."""
    captions = {region.name: words for region, (words, _) in zip(regions, said, strict=True)}
    scores = score_captions(captions, {region.name: region.references() for region in regions})
    by_people, others = people(regions, np.random.default_rng(seed))
    return {
        "regions": len(regions),
        "images": len({region.image for region in regions}),
        "phrases": sum(len(region.phrases) for region in regions),
        "model": {
            **scores.corpus,
            "different": len({*map(tuple, captions.values())}),
            "mean_words": float(np.mean([*map(len, captions.values())])),
        },
        **(
            {
                "people": {"regions": len(others), **score_captions(by_people, others).corpus},
                "beside_people": score_captions({name: captions[name] for name in others}, others).corpus,
            }
            if others
            else {}
        ),
        "captions": [
            {
                "image_id": evaluation.cache.images[region.image].id,
                "region": region.row % evaluation.cache.rows_per_image,
                "rectangle": [round(float(x), 2) for x in evaluation.cache.regions.rectangles[region.row]],
                "caption": " ".join(words),
                "score": score,
                "references": list(region.phrases),
            }
            for region, (words, score) in zip(regions, said, strict=True)
        ],
        "per_image": by_image(evaluation, regions, scores),
    }


def by_image(evaluation: Evaluation, regions: Sequence[NamedRegion], scores: CaptionScores) -> dict[str, Any]:
    """Sums over the regions of each image that has some: `regions` of per_image.jsonl, by image id."""
    images = np.array([region.image for region in regions])
    each = list(scores.per_image.values())
    values = {row.key: np.array([one[row.key] for one in each]) for row in CAPTION_SCORES if row.key in each[0]}
    counts: Mapping[str, np.ndarray] = asdict(scores.counts)
    found = {}
    for image in np.unique(images).tolist():
        own = images == image
        found[evaluation.cache.images[image].id] = {
            "regions": int(own.sum()),
            "scores": {key: float(column[own].sum()) for key, column in values.items()},
            "bleu": {name: column[own].sum(axis=0).tolist() for name, column in counts.items()},
        }
    return found
