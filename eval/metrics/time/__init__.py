"""What happens from frame to frame and over a video: motion, seams, repetition, content that drifts."""
