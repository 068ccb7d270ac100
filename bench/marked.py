"""Pages that a program writes a part of: between `<!-- NAME -->` and `<!-- /NAME -->`."""

import re
from collections.abc import Mapping


def filled(page: str, texts: Mapping[str, str]) -> str:
    """Return a page with what stands between each pair of marks replaced.

    Args:
        page: the text.
        texts: name of a mark to what shall stand there, without a line break at its end; a name
            that the page does not mark is passed over.
    """
    for name, text in texts.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, text=text: f"{match[1]}{text}\n{match[2]}",
            page,
            flags=re.DOTALL,
        )
    return page
