"""Text to token arrays to batches."""
