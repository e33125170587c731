"""Video in and out: exact times, rotation, colour and sound, streamed."""
