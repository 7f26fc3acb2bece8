"""What people, or a model in their place, say of videos: blind pairs, their answers, and how far the answers agree."""
