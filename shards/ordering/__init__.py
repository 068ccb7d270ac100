"""Which sample comes when: the order of one dataset, and mixtures of several."""
