"""Settings declared once: a dataclass field with its default, its help text and its bounds beside it.

The dataclass checks itself by them (`check_settings`), and a command makes its options of them
(`mrnn.data.command.setting_options`), so no default and no text exists twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Declared:
    """What `setting` says of a field beside its default.

    help : one sentence for --help. kind : its type on the command line. choices : all that it may be, () for anything
    within bounds. at_least, above, below : bounds of a number, None for none.
    """

    help: str
    kind: type
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    below: float | None = None

    def requirement(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if self.below is not None:
            return f"must lie in {'(' if self.above is not None else '['}{self.lowest:g}, {self.below:g})"
        return f"must be above {self.above:g}" if self.above is not None else f"must be at least {self.lowest:g}"

    @property
    def lowest(self) -> float:
        """The lower bound, whether or not it belongs to the range."""
        bound = self.above if self.at_least is None else self.at_least
        return float("-inf") if bound is None else bound

    def allows(self, value: Any) -> bool:
        """Whether a value is one of the choices and within the bounds; not-a-number never is."""
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
    """A dataclass field of a setting; see `Declared`. kind : needed only where the default is None."""
    declared = Declared(help, kind or type(default), tuple(choices), at_least, above, below)
    return field(default=default, metadata={"declared": declared})


def declared_settings(config: type) -> Iterator[tuple[str, Any, Declared]]:
    """Name, default and declaration of every setting of a dataclass, in its order; other fields are left out."""
    for each in fields(config):
        if "declared" in each.metadata:
            yield each.name, each.default, each.metadata["declared"]


def check_settings(config: Any) -> None:
    """Raise ValueError for the first setting of a dataclass instance that is not what it must be; None is not set."""
    for name, _, declared in declared_settings(type(config)):
        value = getattr(config, name)
        if value is not None and not declared.allows(value):
            raise ValueError(f"{name} {declared.requirement()}, not {value!r}")
