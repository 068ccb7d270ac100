"""The section of feature maps: pictures beside the principal components of their tokens."""

from collections.abc import Sequence

from fm.page.html import Markup, el
from pretrain.report.colours import Look, colours, look, png
from pretrain.report.features import Mapped


def section(found: Sequence[Mapped], notes: Sequence[str], budget: int) -> list[Markup]:
    """Draw feature maps, and say in a line each what could not be drawn."""
    made: list[Markup] = [el("p", note, class_="facts") for note in notes]
    spent = 0
    for held in found:
        looks = {
            name: look(name, held.bands[name], list(images)) for name, images in held.images.items()
        }
        name = _best(looks)
        head = [el("h3", f"Part {held.part}")] if held.part else []
        rows = []
        for number, key in enumerate(held.keys):
            row = _row(held, number, key, name, looks[name], "h4" if head else "h3")
            spent += len(row)
            if spent > budget:
                break
            rows.append(row)
        shares = "; ".join(
            f"{group}: " + ", ".join(f"{100 * share:.0f} %" for share in parts.shares)
            for group, parts in held.groups.items()
        )
        text = f"Variance of the tokens in the three components (red, green, blue): {shares}."
        made += [*head, el("p", text, class_="facts"), el("div", *rows, class_="maps")]
    return made


def _best(looks: dict[str, Look]) -> str:
    """Choose the modality that a person can read best: true colour on the finest grid."""

    def rank(name: str) -> tuple[bool, bool, float]:
        titles = [panel.title for panel in looks[name].panels]
        true = any(title.startswith("true colour") for title in titles)
        return not true, not looks[name].telling, looks[name].info.gsd_m

    return min(looks, key=rank)


def _row(held: Mapped, number: int, key: str, name: str, how: Look, level: str) -> Markup:
    image = png(
        colours(held.images[name][number], how, how.panels[0]),
        f"{key}: {name}, {how.panels[0].title}",
    )
    cells = [el("figure", image, el("figcaption", f"{name}, {how.panels[0].title}"))]
    for group, parts in held.groups.items():
        rows, columns = parts.colours.shape[1:3]
        picture = png(parts.colours[number], f"{key}: first three principal components of {group}")
        text = f"{group}, {rows} × {columns} tokens"
        cells.append(el("figure", picture, el("figcaption", text)))
    return el("div", el(level, key), el("div", *cells, class_="strip"), class_="strip-row")
