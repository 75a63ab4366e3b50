"""Where results go. Each sink has a queue and a thread of its own: a slow one never stalls the camera."""
