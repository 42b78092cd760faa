"""The acts themselves, and what runs them: standard library only, copied into the scene and read there."""
