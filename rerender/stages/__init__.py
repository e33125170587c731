"""The stages of a run. Each looks at what the project holds, keeps what is valid, and makes the rest."""
