"""What keeps a score honest: bands, overlap with pretraining, disturbed images, a model's card."""
