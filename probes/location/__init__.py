"""Location encoders judged on the ground: places in, what is there out.

Read in this order: `packages` and `fields` (numbers that pip packages carry), `points` (places
drawn once), `tasks` (what is asked), `published` (tables of others), `splits`, `encoders`, `judge`
(one encoder on all tasks of one set of places), `bias`, `suite` (the table), `pictures`, `verb`.
"""
