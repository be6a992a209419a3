"""Settings declared once: a dataclass field together with its default, its help text and its bounds.

The dataclass checks its values against the declarations (`check_settings`), and a command derives its options from
them (`mrnn.data.command.setting_options`), so that no default and no text exists twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mrnn.data.errors import SettingError

FEATURE_DTYPES = ("float16", "float32")  # in which features can be stored; mrnn.data.cache has their bytes
# The settings in a cache's provenance that decide what its features mean. Here, for commands that load no h5py.
FEATURE_SETTINGS = ("backbone", "layer", "views", "relu", "weights_sha256", "preprocessing")
# Those that decide which regions there are, for models that look at more than the whole image.
REGION_SETTINGS = (
    "regions",
    "regions_per_image",
    "region_features",
    "region_sampling",
    "region_settings",
    "region_weights_sha256",
)
# Those of them that decide how the features of a region are computed, wherever it is.
SAMPLING_SETTINGS = ("region_features", "region_sampling")


def layer_sizes(provenance: Mapping[str, Any]) -> tuple[int, ...]:
    """How many numbers of a feature come from each of several layers; () if they come from one."""
    return tuple(int(size) for size in str(provenance.get("layer_sizes", "")).split("+") if size)


def name_features(provenance: Mapping[str, Any]) -> str:
    """What features are, in a few words: backbone, layer, and views if there are several."""
    names = [str(provenance.get("backbone", "?")), str(provenance.get("layer", ""))]
    if "views" in provenance:
        names.append(f"({provenance['views']})")
    return " ".join(filter(None, names))


@dataclass(frozen=True)
class Declared:
    """What `setting` declares about a field, apart from its default.

    help : a sentence for --help, with the unit.
    kind : the type of a value.
    choices : the possible values; () for any value within the bounds.
    at_least, above, below : inclusive lower, exclusive lower and exclusive upper bound of a number; None for none.
    """

    help: str
    kind: type
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    below: float | None = None

    def requirement(self) -> str:
        """The condition on a value, in words."""
        if self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if self.below is not None:
            return f"must lie in {'(' if self.above is not None else '['}{self.lowest:g}, {self.below:g})"
        return f"must be above {self.above:g}" if self.above is not None else f"must be at least {self.lowest:g}"

    @property
    def lowest(self) -> float:
        """The lower bound, inclusive or not."""
        bound = self.above if self.at_least is None else self.at_least
        return float("-inf") if bound is None else bound

    def allows(self, value: Any) -> bool:
        """Whether a value is one of the choices and within the bounds; NaN is within none."""
        if self.choices:
            return value in self.choices
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def setting(
    default: Any,
    help: str,
    *,
    kind: type | None = None,
    choices: Sequence[str] = (),
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field that is a setting, with the arguments of `Declared`; kind is needed for the default None."""
    declared = Declared(help, kind or type(default), tuple(choices), at_least, above, below)
    return field(default=default, metadata={"declared": declared})


def declared_settings(config: type) -> Iterator[tuple[str, Any, Declared]]:
    """Name, default and declaration of every setting of a dataclass, in order; other fields are skipped."""
    for each in fields(config):
        if "declared" in each.metadata:
            yield each.name, each.default, each.metadata["declared"]


def check_settings(config: Any) -> None:
    """Raise SettingError for the first setting of a dataclass instance that is out of bounds; None means not set."""
    for name, _, declared in declared_settings(type(config)):
        value = getattr(config, name)
        if value is not None and not declared.allows(value):
            raise SettingError(f"{name} {declared.requirement()}, not {value!r}")
