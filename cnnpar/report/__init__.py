"""What a run tells people: progress on the terminal, metrics.jsonl, and a picture of the accuracy."""
