"""Labelled pictures: a folder with labels.csv or COCO instances.json, or an .npz of arrays."""
