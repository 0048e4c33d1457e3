"""The contrast of the widget's colour, as WCAG 2.2 defines it. The script of the page computes the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

TEXT_MINIMUM = 4.5
"""For text (WCAG 2.2, 1.4.3, level AA)."""
SHAPE_MINIMUM = 3.0
"""For controls against their surroundings (WCAG 2.2, 1.4.11, level AA)."""
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_DARK_INK_FROM = 0.179
"""The luminance from which `widget.js` uses black text."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Ratios from 1 to 21."""

    ink: str
    """The colour of the text on the button, which the widget chooses: black or white."""
    text: float
    """Of the text on the button."""
    on_white: float
    """Of the button on a white page."""

    @property
    def text_passes(self) -> bool:
        return self.text >= TEXT_MINIMUM

    @property
    def on_white_passes(self) -> bool:
        return self.on_white >= SHAPE_MINIMUM


def contrast_of(color: str | None) -> Contrast | None:
    """The contrast of a colour such as `#1746a2`; None for another text."""
    if color is None or _COLOR.fullmatch(color) is None:
        return None
    luminance = _luminance(color)
    dark = luminance > _DARK_INK_FROM
    return Contrast("black" if dark else "white", _ratio(luminance, 0.0 if dark else 1.0), _ratio(luminance, 1.0))


def _luminance(color: str) -> float:
    red, green, blue = (_linear(int(color[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    # A power of floats is Any for mypy, because it can be complex.
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def _ratio(one: float, other: float) -> float:
    lighter, darker = max(one, other), min(one, other)
    return (lighter + 0.05) / (darker + 0.05)
