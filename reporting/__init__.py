"""Results to tables, figures, pages and model cards."""
