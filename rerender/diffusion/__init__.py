"""The constraints that hold key frames together, as hooks on plain torch modules."""
