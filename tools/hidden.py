"""What does not show in a text, or changes how the rest of it is shown: found, and spelled out. One rule for pages,
reports and terminals, since all of them show what models wrote."""

import re

EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2934\u2935\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
HIDDEN = re.compile(
    # Controls and the first bytes of terminal sequences, soft hyphen, marks and overrides of direction, separators,
    # fillers, zero-width characters, variation selectors, tags, halves of surrogate pairs.
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    # The end of a line, the colour of an emoji and what joins two of them stay where they do just that.
    f"|\r(?!\n)|(?<![{EMOJI}0-9#*])\ufe0f|(?<![{EMOJI}\ufe0f])\u200d|\u200d(?![{EMOJI}])"
)


def spelled(text: str) -> str:
    """A text that shows everything in it, and does nothing."""
    return HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)  # not a control picture: few fonts have these
