"""What retrieval measured: answers query by query with ids and texts, recalls, and the JSON form that is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mrnn.evaluate.metrics import names
from mrnn.evaluate.retrieval.ranking import Recalls
from mrnn.evaluate.retrieval.scores import RoundState

COUNTS = ("normaliser_images", "seed", "local_scaling", "prefix_states", "words_and_ends", "scored_exactly")
PERCENTS = (1, 2, 5, 10, 20, 50)  # r of "within the best r percent of the pool"
Ranks = dict[str, tuple[int, int]]  # by criterion or direction: the worst and the best rank among ties


@dataclass(frozen=True)
class FoundSentence:
    """A sentence in the list of an image. right : it is the image's own. values : as Ranking.values names them."""

    image_id: str
    number: int
    text: str
    right: bool
    values: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """One flat object."""
        named = {"image_id": self.image_id, "number": self.number, "sentence": self.text, "right": self.right}
        return {**named, **self.values}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FoundSentence":
        """What `to_json` gave. Raises KeyError if a name is missing."""
        values = dict(content)
        image, number, text, right = (values.pop(name) for name in ("image_id", "number", "sentence", "right"))
        return cls(image, number, text, right, values)


@dataclass(frozen=True)
class FoundImage:
    """An image in the list of a sentence. right : the sentence is its own. log_prob : what sentences rank it by."""

    image_id: str
    right: bool
    log_prob: float


@dataclass(frozen=True)
class ImageAnswer:
    """What an image found: the ranks of its first own sentence by each criterion, and the list by the first one."""

    image_id: str
    ranks: Ranks
    sentences: tuple[FoundSentence, ...]

    @property
    def rank(self) -> int:
        """The reported one: by the first criterion, ties against us."""
        return next(iter(self.ranks.values()))[0]

    def to_json(self) -> dict[str, Any]:
        """The line of retrieved_sentences.jsonl."""
        sentences = [sentence.to_json() for sentence in self.sentences]
        return {"image_id": self.image_id, "rank": self.rank, "ranks": self.ranks, "sentences": sentences}


@dataclass(frozen=True)
class SentenceAnswer:
    """What a sentence found: the ranks of its image by each criterion, and the list of images by the first one."""

    image_id: str
    number: int
    text: str
    ranks: Ranks
    images: tuple[FoundImage, ...]

    @property
    def rank(self) -> int:
        """The reported one, ties against us."""
        return next(iter(self.ranks.values()))[0]

    def to_json(self) -> dict[str, Any]:
        """The line of retrieved_images.jsonl."""
        named = {"image_id": self.image_id, "number": self.number, "sentence": self.text}
        return {**named, "rank": self.rank, "ranks": self.ranks, "images": [asdict(image) for image in self.images]}


@dataclass(frozen=True)
class RetrievalResult:
    """What the retrieval stage measured, over one pool or joined over several.

    recalls : by criterion or direction, ties against us; the mean over the pools
    best_of_ties : the same with ties in our favour, where that makes a difference
    images, sentences : the answers, pool after pool
    pool_images, pool_sentences : size of each pool
    normaliser_images, seed : how many images P(w) is averaged over, and how they were drawn
    local_scaling : whether scores of models that match were corrected by their neighbours
    prefix_states, words_and_ends : what the sentences came to, added up over the pools
    scored_exactly : share of the pairs, the mean over the pools
    course : of the first pool, round by round; empty where every pair was scored
    """

    recalls: dict[str, Recalls]
    best_of_ties: dict[str, Recalls]
    images: tuple[ImageAnswer, ...]
    sentences: tuple[SentenceAnswer, ...]
    pool_images: tuple[int, ...]
    pool_sentences: tuple[int, ...]
    normaliser_images: int
    seed: int
    local_scaling: bool
    prefix_states: int
    words_and_ends: int
    scored_exactly: float
    course: tuple[RoundState, ...]

    def ranks(self) -> dict[str, list[int]]:
        """The reported rank of every query by criterion or direction."""
        by_image = {name: [answer.ranks[name][0] for answer in self.images] for name in self.images[0].ranks}
        by_sentence = {name: [answer.ranks[name][0] for answer in self.sentences] for name in self.sentences[0].ranks}
        return by_image | by_sentence

    def within_percent(self) -> dict[str, dict[str, float]]:
        """Percent of the queries whose first right answer is within the best r percent of the pool, by criterion and r.

        The points of the curves that m-RNN v1 draws for IAPR TC-12, whose test set is not of the size of the others.
        """
        pools, sentences = np.array(self.pool_images), np.array(self.pool_sentences)
        sizes = dict.fromkeys(self.images[0].ranks, np.repeat(sentences, pools))
        sizes |= dict.fromkeys(self.sentences[0].ranks, np.repeat(pools, sentences))
        ranks = {name: 100 * np.array(found) for name, found in self.ranks().items()}
        return {
            name: {str(r): 100 * float((found <= r * sizes[name]).mean()) for r in PERCENTS}
            for name, found in ranks.items()
        }

    def summary(self) -> dict[str, Any]:
        """What metrics.json holds under `retrieval`."""
        one = len(self.pool_images) == 1
        recalls = {name: found.to_json() for name, found in self.recalls.items()}
        tied = {name: found.to_json() for name, found in self.best_of_ties.items()}
        return {
            **recalls,
            names.RSUM: names.rsum(recalls),
            **({"best_of_ties": tied} if tied else {}),
            "within_percent": self.within_percent(),
            "images": self.pool_images[0] if one else list(self.pool_images),
            "sentences": self.pool_sentences[0] if one else list(self.pool_sentences),
            "normaliser_images": self.normaliser_images,
            "seed": self.seed,
            "local_scaling": self.local_scaling,
            "folds": len(self.pool_images),
            "prefix_states": self.prefix_states,
            "words_and_ends": self.words_and_ends,
            "scored_exactly": self.scored_exactly,
            "course": [asdict(state) for state in self.course],
        }

    def to_json(self) -> dict[str, Any]:
        """The content of parts/retrieval.json."""
        answers = {}
        for answer in self.images:
            content = answer.to_json()
            answers[content.pop("image_id")] = content
        sentence_answers = [answer.to_json() for answer in self.sentences]
        return {
            **self.summary(),
            "ranks": self.ranks(),
            "answers": answers,
            "sentence_answers": sentence_answers,
        }

    @classmethod
    def from_json(cls, content: Any) -> "RetrievalResult":
        """What `to_json` gave. Raises KeyError, TypeError, ValueError or AttributeError for anything else."""
        tied = content.get("best_of_ties", {})
        ranked = content["ranks"].keys()
        return cls(
            recalls={name: Recalls.from_json(content[name]) for name in content if name in ranked},
            best_of_ties={name: Recalls.from_json(found) for name, found in tied.items()},
            images=tuple(
                ImageAnswer(image, _ranks(answer), tuple(map(FoundSentence.from_json, answer["sentences"])))
                for image, answer in content["answers"].items()
            ),
            sentences=tuple(
                SentenceAnswer(
                    answer["image_id"],
                    answer["number"],
                    answer["sentence"],
                    _ranks(answer),
                    tuple(FoundImage(**image) for image in answer["images"]),
                )
                for answer in content["sentence_answers"]
            ),
            pool_images=tuple(np.atleast_1d(content["images"]).tolist()),
            pool_sentences=tuple(np.atleast_1d(content["sentences"]).tolist()),
            **{name: content[name] for name in COUNTS},
            course=tuple(RoundState(**state) for state in content["course"]),
        )


def _ranks(answer: Mapping[str, Any]) -> Ranks:
    return {name: (worst, best) for name, (worst, best) in answer["ranks"].items()}


def join(results: Sequence[RetrievalResult]) -> RetrievalResult:
    """The result of several pools: numbers averaged, queries joined, counts added up."""
    if len(results) == 1:
        return results[0]
    first = results[0]
    tied = [name for name in first.recalls if any(name in result.best_of_ties for result in results)]
    return RetrievalResult(
        recalls={name: Recalls.mean([result.recalls[name] for result in results]) for name in first.recalls},
        best_of_ties={
            name: Recalls.mean([result.best_of_ties.get(name, result.recalls[name]) for result in results])
            for name in tied
        },
        images=tuple(answer for result in results for answer in result.images),
        sentences=tuple(answer for result in results for answer in result.sentences),
        pool_images=tuple(count for result in results for count in result.pool_images),
        pool_sentences=tuple(count for result in results for count in result.pool_sentences),
        normaliser_images=first.normaliser_images,
        seed=first.seed,
        local_scaling=first.local_scaling,
        prefix_states=sum(result.prefix_states for result in results),
        words_and_ends=sum(result.words_and_ends for result in results),
        scored_exactly=float(np.mean([result.scored_exactly for result in results])),
        course=first.course,
    )
