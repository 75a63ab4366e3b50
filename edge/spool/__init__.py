"""Disk store-and-forward: frames worth a late answer wait here while the link is down.

`extents` knows which blocks are free, `record` how a record lies on disk, `arena` keeps records in one file,
`spool` adds time, group commit and counters, `frames` says what a spooled frame is.
"""
