"""What the cloud said of earlier frames, brought to the present: tracks and their flow."""
