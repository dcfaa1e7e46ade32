"""Plugins: finds and imports methods, streams and backbones, ours and others', and hashes their code."""
