"""Released weights by name: fetched from where they lie, verified, converted.

`download` brings one file over HTTP, `released` puts it together with the catalogue and the
converters. Addresses and revisions are `fm.hub`'s.
"""
