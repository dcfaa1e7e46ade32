"""Methods, streams and backbones, ours and those of others: found, imported, and what code they reach."""
