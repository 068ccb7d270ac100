"""Location encoders judged on the ground: places in, what is there out.

Read in this order: `packages` and `fields` (numbers that pip packages carry), `points` (places
drawn once), `tasks` (what is asked), `published` (tables of others), `splits`, `names` and
`encoders`, `judge` (one encoder on all tasks of one set of places), `bias` and `surprise`, `suite`
(the table), `report`, `pictures`, `verb`.
"""

PREFIX = "location:"


def is_location(name: object) -> bool:
    """Say whether a model's name is of a location encoder."""
    return isinstance(name, str) and name.startswith(PREFIX)
