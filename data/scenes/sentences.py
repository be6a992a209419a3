"""Five sentences for a scene, as different people might write them, with the groups that their phrases name.

A sentence is a list of parts: plain words, or a `Mention` of a group. Each writer describes a different aspect (what is
where, how many, on what background, which is bigger) and leaves out the rest.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mrnn.data.scenes.drawing import accent
from mrnn.data.scenes.layout import Group, Scene

PLURALS = {"cross": "crosses", "box": "boxes"}
SHAPE_WORDS = {"circle": ("circle", "disc", "circle"), "ring": ("ring", "hoop"), "square": ("square", "square", "box")}
COLOUR_WORDS = {
    "red": ("red", "red", "crimson"),
    "yellow": ("yellow", "yellow", "golden"),
    "purple": ("purple", "violet"),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "medium": ("",), "large": ("large", "big", "huge")}
TEXTURE_WORDS = {"plain": ("",), "striped": ("striped",), "dotted": ("dotted", "spotted")}
TEXTURE_NOUNS = {"striped": "stripes", "dotted": "dots"}
NUMBERS = {2: ("two", "two", "a pair of", "a couple of"), 3: ("three",), 4: ("four",)}
COUNTS = ("no", "one", "two", "three", "four")
RELATIONS = {
    "left": ("to the left of", "left of", "on the left of", "beside", "next to"),
    "right": ("to the right of", "right of", "on the right of", "beside", "next to"),
    "above": ("above", "over", "higher than", "on top of"),
    "below": ("below", "under", "underneath", "beneath"),
    "inside": ("inside", "within", "in the middle of", "surrounded by"),
    "front": ("in front of", "partly covering", "overlapping"),
    "outside": ("around", "behind"),
    "behind": ("behind", "partly hidden by"),
}
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above", "inside": "outside", "front": "behind"}
VERBS = (("", ""), ("", ""), ("is", "are"), ("sits", "sit"), ("lies", "lie"), ("floats", "float"))
GENERIC = ("shape", "shape", "figure", "object", "thing")
OPENINGS = ("a picture of", "an image with", "a drawing of", "this shows", "there {are}", "here {are}", "", "")


@dataclass(frozen=True, slots=True)
class Mention:
    """A noun phrase that names all things of a group."""

    words: str
    group: Group


Parts = list[str | Mention]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase of a sentence.

    text : as it is in the sentence. words : its first word in the sentence, split at blanks, and one past its last.
    group : what it names.
    """

    text: str
    words: tuple[int, int]
    group: Group


@dataclass(frozen=True, slots=True)
class Described:
    """A sentence, and its phrases."""

    text: str
    phrases: tuple[Phrase, ...]


def describe(scene: Scene, rng: random.Random, *, count: int = 5) -> tuple[Described, ...]:
    """Different sentences for a scene. Every aspect is used once before one is used again in other words."""
    found: dict[str, Described] = {}
    aspects: list[Callable[[Scene, random.Random], Parts]] = []
    while len(found) < count:
        if not aspects:
            aspects = list(_aspects(scene))
            rng.shuffle(aspects)
        described = _written(aspects.pop()(scene, rng), rng)
        found.setdefault(described.text.lower().rstrip(" ."), described)
    return tuple(found.values())


def _aspects(scene: Scene) -> Iterator[Callable[[Scene, random.Random], Parts]]:
    yield from (_all_of_it, _all_of_it, _ground_first, _how_many)
    if len(scene.groups) == 2:
        yield from (_relation, _relation, _inverse_relation)
        if scene.groups[0].size != scene.groups[1].size:
            yield _which_is_bigger
    elif len(scene.groups) == 3:
        yield from (_from_left_to_right, _in_the_middle)
    else:
        yield from (_place, _place)
    if any(group.texture != "plain" for group in scene.groups):
        yield _texture
    yield _colours


def _all_of_it(scene: Scene, rng: random.Random) -> Parts:
    """'there are two small stars and a ring on the grass'"""
    first, *others = _listed(scene, rng)
    assert isinstance(first, Mention)
    ground = [rng.choice(scene.background.phrases)] if rng.random() < 0.5 else []
    return [rng.choice(OPENINGS).format(are=_are(first.group)), first, *others, *ground]


def _ground_first(scene: Scene, rng: random.Random) -> Parts:
    """'on the beach there is a ring'"""
    ground, (first, *others) = rng.choice(scene.background.phrases), _listed(scene, rng)
    assert isinstance(first, Mention)
    opening = rng.choice((f"there {_are(first.group)}", "you see"))
    return [ground, opening, first, *others]


def _how_many(scene: Scene, rng: random.Random) -> Parts:
    """'three shapes on a grey background', or 'three stars' if they are of one kind."""
    total = sum(len(group.centres) for group in scene.groups)
    same = len({group.shape for group in scene.groups}) == 1
    noun = rng.choice(SHAPE_WORDS.get(scene.groups[0].shape, (scene.groups[0].shape,)) if same else GENERIC)
    opening = rng.choice(("", "", "only", "a picture of", "there {are}")).format(are="are" if total > 1 else "is")
    return [opening, COUNTS[total], _plural(noun, total), rng.choice(scene.background.phrases)]


def _relation(scene: Scene, rng: random.Random) -> Parts:
    first, second = scene.groups
    words = rng.choice(RELATIONS[scene.relation])
    return [_mention(second, rng), _verb(second, rng), words, _mention(first, rng)]


def _inverse_relation(scene: Scene, rng: random.Random) -> Parts:
    first, second = scene.groups
    words = rng.choice(RELATIONS[INVERSE[scene.relation]])
    if rng.random() < 0.3:
        ground = rng.choice(scene.background.phrases)
        return [_mention(first, rng), words, _mention(second, rng), ground]
    return [_mention(first, rng), _verb(first, rng), words, _mention(second, rng)]


def _which_is_bigger(scene: Scene, rng: random.Random) -> Parts:
    order = sorted(scene.groups, key=lambda group: ("small", "medium", "large").index(group.size))
    words = rng.choice(("smaller than", "not as big as"))
    if rng.random() < 0.5:
        order.reverse()
        words = rng.choice(("bigger than", "larger than"))
    first, second = order
    return [_mention(first, rng, sized=False), _are(first), words, _mention(second, rng, sized=False)]


def _from_left_to_right(scene: Scene, rng: random.Random) -> Parts:
    mentions = [_mention(group, rng) for group in scene.groups]
    if rng.random() < 0.5:
        return ["from left to right", mentions[0], ",", mentions[1], "and", mentions[2]]
    return [mentions[0], ", then", mentions[1], ", then", mentions[2], rng.choice(("in a row", "side by side"))]


def _in_the_middle(scene: Scene, rng: random.Random) -> Parts:
    left, middle, right = scene.groups
    return [
        _mention(middle, rng),
        rng.choice(("between", "is between")),
        _mention(left, rng),
        "and",
        _mention(right, rng),
    ]


def _place(scene: Scene, rng: random.Random) -> Parts:
    (group,) = scene.groups
    if scene.relation == "row":
        where = rng.choice(("in a row", "side by side", "next to each other", "in a line from left to right"))
    elif scene.relation == "column":
        where = rng.choice(("in a column", "stacked", "one above the other", "in a line from top to bottom"))
    elif scene.relation == "middle":
        where = rng.choice(("in the middle", "in the centre of the picture", "right in the centre"))
    elif " " in scene.relation:
        where = rng.choice(
            (f"in the {scene.relation} corner", f"at the {scene.relation}", f"near the {scene.relation}")
        )
    else:
        where = rng.choice((f"on the {scene.relation}", f"at the {scene.relation} of the picture"))
    mention = _mention(group, rng)
    return [where, mention] if rng.random() < 0.2 else [mention, _verb(group, rng), where]


def _texture(scene: Scene, rng: random.Random) -> Parts:
    """'a red square with white stripes'"""
    group = rng.choice([group for group in scene.groups if group.texture != "plain"])
    marks = f"{accent(group.colour)} {TEXTURE_NOUNS[group.texture]}"
    mention = Mention(f"{_mention(group, rng, textured=False).words} with {marks}", group)
    return [mention, rng.choice((*scene.background.phrases, "", "", "", ""))]


def _colours(scene: Scene, rng: random.Random) -> Parts:
    """'something red and something blue'"""
    parts: Parts = []
    for group in scene.groups:
        count = len(group.centres)
        words = "something" if count == 1 else f"{COUNTS[count]} {_plural(rng.choice(GENERIC), count)} in"
        parts += ["and"] * bool(parts)
        parts.append(Mention(f"{words} {_colour(group, rng)}", group))
    return [*parts, rng.choice(scene.background.phrases)]


def _listed(scene: Scene, rng: random.Random) -> Parts:
    """All groups, with 'and' or 'with' before the last."""
    mentions: list[Mention] = [_mention(group, rng) for group in rng.sample(scene.groups, len(scene.groups))]
    if len(mentions) == 1:
        return [*mentions]
    *others, last = mentions
    joined: Parts = [part for mention in others for part in (",", mention)][1:]
    return [*joined, rng.choice(("and", "and", "with")), last]


def _mention(group: Group, rng: random.Random, *, sized: bool = True, textured: bool = True) -> Mention:
    """'a small striped red square', 'two violet hoops'; words other than the colour are often left out."""
    words = [
        rng.choice(SIZE_WORDS[group.size]) if sized and rng.random() < 0.6 else "",
        rng.choice(TEXTURE_WORDS[group.texture]) if textured and rng.random() < 0.6 else "",
        _colour(group, rng) if rng.random() < 0.9 else "",
        _plural(rng.choice(SHAPE_WORDS.get(group.shape, (group.shape,))), len(group.centres)),
    ]
    words = [word for word in words if word]
    if len(group.centres) > 1:
        return Mention(" ".join([rng.choice(NUMBERS[len(group.centres)]), *words]), group)
    article = "an" if words[0][0] in "aeiou" else "a"
    return Mention(" ".join([article, *words]), group)


def _colour(group: Group, rng: random.Random) -> str:
    return rng.choice(COLOUR_WORDS.get(group.colour, (group.colour,)))


def _are(group: Group) -> str:
    return "are" if len(group.centres) > 1 else "is"


def _verb(group: Group, rng: random.Random) -> str:
    return rng.choice(VERBS)[len(group.centres) > 1]


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else PLURALS.get(noun, f"{noun}s")


def _written(parts: Parts, rng: random.Random) -> Described:
    """The sentence of the parts, half of the time with a capital, a full stop, or both."""
    text = ""
    spans: list[tuple[int, int, Group]] = []
    for part in parts:
        words = part.words if isinstance(part, Mention) else part
        begin = len(text) + bool(text)
        text += (" " if text and words and words[0] != "," else "") + words
        if isinstance(part, Mention):
            spans.append((begin, len(text), part.group))
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    text += rng.choice(("", "", ".", " ."))
    return Described(
        text,
        tuple(
            Phrase(text[begin:end], (text[:begin].count(" "), text[:end].count(" ") + 1), group)
            for begin, end, group in spans
        ),
    )
