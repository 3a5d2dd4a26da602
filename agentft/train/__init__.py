"""Training methods, one file each, thin over TRL. Every place that touches TRL is in this package."""
