"""What the data means: GLUE readers and metrics, token stores, batches."""
