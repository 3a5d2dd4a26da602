"""Models in process: where they come from, on what device and dtype they run, how they generate and score."""
