"""The section of the report about confidence: what captions as sure as these were worth on dev, and are worth here."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrnn.evaluate.report.loss_curve import nice_ticks
from mrnn.evaluate.report.page import section

SIZE, LEFT, BOTTOM, TOP, RIGHT = 420, 52, 48, 12, 12  # of the square diagram


def confidence_lines(confidence: Mapping[str, Any]) -> list[str]:
    """For the terminal: whether surer captions are better, and how far a calibration is off."""
    lines = [f"confidence: {_correlation(confidence)} over {confidence['captions']:,} captions"]
    if "bins" in confidence:
        where = "the captions that it was fitted to" if confidence["fitted_here"] else "these captions"
        lines.append(
            f"calibration: on {where} CIDEr is {confidence['mean_difference']:.3f} off, mean over "
            f"{len(confidence['bins'])} bins"
        )
    return lines


def confidence_section(confidence: Mapping[str, Any] | None) -> str:
    """The rank correlation and, with a calibration, the reliability diagram and its table; '' without a measurement."""
    if not confidence:
        return ""
    intro = (
        '<p class="small">The confidence of a caption is its log-probability per word, END counted. '
        f"Over {confidence['captions']:,} captions: {_correlation(confidence)}.</p>"
    )
    if "bins" not in confidence:
        return section("Confidence", intro, name="confidence")
    source = (
        "The prediction was fitted to these very captions, so the diagram flatters it: the points lie on the diagonal "
        "but for bins that were pooled. It means something on another split, measured with --confidence."
        if confidence["fitted_here"]
        else "The prediction comes from the dev split, the measurement from this one."
    )
    explained = (
        '<p class="small">Each point is a bin of captions that the model was about equally sure of. Across: the CIDEr '
        "that captions as sure as these had on the dev split. Up: the CIDEr that they have here, with its 95 % "
        f"bootstrap interval. On the dashed line both are equal; they differ by {confidence['mean_difference']:.3f} on "
        f"average. CIDEr is that of single captions, on plain words. {source}</p>"
    )
    bins = confidence["bins"]
    body = f'{intro}{explained}<div class="pair">{reliability_diagram(bins)}{_table(bins)}</div>'
    return section("Confidence", body, name="confidence")


def reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> str:
    """SVG of measured against predicted CIDEr: a point with its interval for each bin, and the diagonal."""
    ends = [end for each in bins for end in (each["predicted"], each["measured"], *each["interval"])]
    ticks = nice_ticks(min(ends), max(ends))
    low, high = ticks[0], ticks[-1]

    def across(value: float) -> float:
        return round(LEFT + (SIZE - LEFT - RIGHT) * (value - low) / (high - low), 1)

    def up(value: float) -> float:
        return round(TOP + (SIZE - TOP - BOTTOM) * (high - value) / (high - low), 1)

    parts = [f'<svg viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label="measured against predicted CIDEr">']
    for tick in ticks:
        x, y = across(tick), up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{SIZE - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{x}" y="{SIZE - BOTTOM + 17}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<path class="ideal" d="M{across(low)} {up(low)}L{across(high)} {up(high)}"/>')
    for each in bins:
        x, (bottom, top) = across(each["predicted"]), map(up, each["interval"])
        title = f"{each['captions']:,} captions: predicted {each['predicted']:.3f}, measured {each['measured']:.3f}"
        parts.append(f'<path class="spread" d="M{x} {top}V{bottom}M{x - 4} {top}h8M{x - 4} {bottom}h8"/>')
        parts.append(f'<circle class="val" cx="{x}" cy="{up(each["measured"])}" r="4"><title>{title}</title></circle>')
    middle = (LEFT + SIZE) / 2
    parts.append(f'<text x="{middle}" y="{SIZE - 8}" text-anchor="middle">predicted CIDEr</text>')
    parts.append(
        f'<text transform="translate(14 {(SIZE - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">measured CIDEr</text>'
    )
    return "".join([*parts, "</svg>"])


def _table(bins: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{each['lower']:.2f}</th><td>{each['captions']:,}</td><td>{each['predicted']:.3f}</td>"
        f"<td>{each['measured']:.3f}<small>{each['interval'][0]:.3f} to {each['interval'][1]:.3f}</small></td></tr>"
        for each in bins
    )
    heads = "".join(f"<th>{head}</th>" for head in ("log P per word, from", "captions", "predicted", "measured"))
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _correlation(confidence: Mapping[str, Any]) -> str:
    found = confidence["rank_correlation"]
    return (
        "no rank correlation with CIDEr, one of the two is constant"
        if found is None
        else (f"rank correlation with CIDEr {found:.2f}")
    )
