"""The sections of a run's config, one file each; `pretrain.config` puts them together."""
