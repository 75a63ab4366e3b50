"""Store-and-forward on disk: frames worth a late answer wait here while the link is down.

`extents` tracks free blocks, `record` lays out a record on disk, `scan` finds the records of a file whatever
happened to it, `arena` stores records in one file, `values` names what goes in and what becomes of it,
`spool` adds time, group commit and counters, `frames` encodes a frame as a record, `drain` delivers records,
and `forwarder` takes frames in and runs it all on threads.
"""
