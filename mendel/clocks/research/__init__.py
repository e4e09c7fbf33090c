"""The research clock: recipes, bred and proved on the proxies."""
