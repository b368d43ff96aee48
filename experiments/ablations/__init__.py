"""What each part of the method is worth: trainings with one part taken away, under one budget."""
