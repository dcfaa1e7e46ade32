"""timm's networks behind one interface: sites, tokens, features, weights, training. Knows no method."""
