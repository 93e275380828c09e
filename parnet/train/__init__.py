"""Training: the session and its verbs, `fit`, `evaluate`, callbacks, progress, data. Stage: train. Must not know: files."""
