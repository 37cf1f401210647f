"""robosuite: its arm, clock and cameras, exact and without needless work, whatever the task."""
