"""Where was this image taken: cells of about as many training images, and places as answers.

Read in this order: `cells` (the partition of the Earth), `choice` (what the scores of cells say),
`ceiling` (what no answer can beat), `pictures`.
"""
