"""Pretraining a backbone: objectives, settings, the run, and the card beside the weights."""
