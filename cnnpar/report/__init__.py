"""Reports of a run for people and programs: progress, metrics, pictures, tables, JSON."""
