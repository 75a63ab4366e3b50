"""Edge-cloud inference: frames that the edge's small model is unsure of spill over to the cloud.

The four packages below this one are links to folders of the repository; a wheel holds them as real folders.
"""
