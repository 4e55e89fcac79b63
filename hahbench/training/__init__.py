"""Training: recipes, costs and the loop that turns a model card into weights."""
