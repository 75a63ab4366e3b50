"""Frames from a video file, a folder of images, a device or a stream, through a bounded queue."""
