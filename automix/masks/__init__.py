"""What a mix is made of: masks, recipes, pairings, and training steps of a method's own."""
