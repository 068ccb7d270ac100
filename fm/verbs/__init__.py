"""The verbs that belong to `fm` itself: models, doctor, demo."""
