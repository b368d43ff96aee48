"""What the experiments on trainings share: the corpus by voice, one trial, its figures, tables and plots."""
