"""Names the cause of a wrong number: before a run by looking at checkpoint and environment, after it by its folder."""
