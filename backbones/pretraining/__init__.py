"""How a backbone is made: objectives, the recipe, the run, and the card beside the weights."""
