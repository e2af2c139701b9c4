"""The types of all files that outlive a run. Each key is described here, and nowhere else."""
