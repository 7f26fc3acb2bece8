"""Whether videos of the embedded world show what their captions say. No network."""
