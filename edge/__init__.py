"""The edge daemon: camera -> model -> policy -> uplink -> sink."""
