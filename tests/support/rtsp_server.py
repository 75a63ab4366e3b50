"""A camera on the network, as a program of the system's Python: GStreamer's RTSP server with a test picture.

    /usr/bin/python3 tests/support/rtsp_server.py PORT WIDTH HEIGHT PATTERN

PATTERN is one of videotestsrc's: `snow` is new noise in every picture, `circular` the same one for ever.
Prints `ready` and its port when it listens. Debian packages: gir1.2-gst-rtsp-server-1.0
gstreamer1.0-plugins-base gstreamer1.0-plugins-good python3-gi
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - the versions come first


def main() -> int:
    """Serve until killed."""
    port, width, height, pattern = sys.argv[1:]
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( videotestsrc is-live=true pattern={pattern} ! "
        f"video/x-raw,format=I420,width={width},height={height},framerate=15/1 ! "
        "jpegenc ! rtpjpegpay name=pay0 pt=26 )"
    )
    factory.set_shared(True)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/camera", factory)
    if not server.attach(None):
        return 1
    print("ready", server.get_bound_port(), flush=True)  # noqa: T201 - read by who started it
    GLib.MainLoop().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
