"""What a frame rate that follows the scene saves and loses, and a camera of 30 frames a second."""
