"""Networks on timm behind one face: sites, tokens, features, weights, training. Knows no method."""
