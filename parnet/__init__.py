"""parnet."""
