"""Convert: models in forms that other runtimes take."""
