"""Text that is safe to show on a terminal and in a log: unprintable characters become visible escapes."""

import unicodedata

#: Unicode categories of control characters, invisible formatting characters such as direction marks, lone surrogates,
#: and separators of lines and paragraphs.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Letters and marks that are invisible, although their categories contain visible characters: fillers of Hangul, the
#: grapheme joiner, and inherent vowels of Khmer.
INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
#: Zero-width non-joiner and joiner: invisible, but parts of words and emoji.
JOINERS = "\u200c\u200d"


def visible(text: str, keep: str = "") -> str:
    r"""Return the text with escapes such as \x1b, \n and \u202e for unprintable and invisible characters.

    With these characters, a name could control the terminal, forge a line of a log, or look like another name. The
    characters of `keep` are not changed, nor are joiners between two characters outside ASCII, which occur in Persian
    words and in emoji.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or _is_visible(text, index) else char.encode("unicode_escape").decode()
        for index, char in enumerate(text)
    )


def _is_visible(text: str, index: int) -> bool:
    char = text[index]
    if char in JOINERS:
        neighbours = text[max(index - 1, 0) : index] + text[index + 1 : index + 2]
        return len(neighbours) == 2 and not any(neighbour.isascii() for neighbour in neighbours)
    return unicodedata.category(char) not in UNPRINTABLE and char not in INVISIBLE
