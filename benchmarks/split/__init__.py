<<<<<<< HEAD
"""Split inference beside JPEG and the edge alone: bytes against accuracy, latency over links."""
=======
"""`make bench-split`: bytes, accuracy and latency of split inference, beside JPEG and the edge alone."""
>>>>>>> 4025dec (Name the benchmarks' files after what they measure, and let them start daemons and judge pictures as the workbench does)
