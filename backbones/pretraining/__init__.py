"""Pretraining: how a backbone gets its weights."""
