"""What single pictures look like, and how far that has moved since the first window. No network."""
