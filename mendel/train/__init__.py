"""Training: `folds` measures rounds of the text model, `run` trains sequence models."""
