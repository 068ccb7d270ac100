"""A class a pixel: token maps, the heads on them, and the learner that joins the two."""
