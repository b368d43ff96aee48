"""What other encoders hear of lips that ours does not: ``python -m experiments.teachers --help``."""
