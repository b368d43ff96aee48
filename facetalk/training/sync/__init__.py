"""Training and validation of the sync expert, the judge of lips against sound."""
