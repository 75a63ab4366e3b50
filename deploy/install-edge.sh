#!/bin/sh
# Installs the edge daemon on this machine: a virtual environment, a user, folders, the unit, a first configuration.
set -eu

VENV=/opt/spillover
ETC=/etc/spillover
STATE=/var/lib/spillover
UNITS=/etc/systemd/system
UNIT=$UNITS/spillover-edge@.service
DROP_IN=$UNITS/spillover-edge@.service.d
SYSUSERS=/etc/sysusers.d/spillover.conf
TMPFILES=/etc/tmpfiles.d/spillover.conf
CLOUD_UNIT=$UNITS/spillover-cloud.service
NEEDED_KB=700000

usage() {
    cat << 'END'
usage: sudo sh install-edge.sh [SOURCE] [--instance NAME] [--video] [--python PROGRAM]
       sudo sh install-edge.sh --uninstall [--purge]

Installs the edge daemon of Spillover under systemd. Run it again to upgrade or to add an instance: what is
there is kept, /etc/spillover above all.

  SOURCE             a wheel, an sdist or a checkout; without it what this script lies in
  --instance NAME    the unit is spillover-edge@NAME, its configuration /etc/spillover/edge-NAME.yaml, its state
                     /var/lib/spillover/NAME (default: main)
  --video            PyAV too, with FFmpeg and x264 (GPL), for uplink.payload: video; 100 MB more; kept by upgrades
  --python PROGRAM   a Python 3.11, 3.12 or 3.13, in place of the first that is found
  --uninstall        remove program and units; configuration and state stay
  --purge            with --uninstall: remove configuration, keys, state and the user, too
  --help             show this

It needs a 64-bit Linux with glibc 2.28 or later, x86-64 or aarch64, and some 400 MB in /opt. pip takes packages
from where it is configured to (PIP_INDEX_URL and its like are passed on), each checked against its hash.
END
}

say() { printf '%s\n' "$*"; }
step() { say "* $*"; }
# fail WHAT WAY-OUT: both on standard error, and the end.
fail() {
    printf 'install-edge: %s\n  %s\n' "$1" "$2" >&2
    exit 1
}
has() { command -v "$1" > /dev/null 2>&1; }
systemd_runs() { [ -d /run/systemd/system ] && has systemctl; }

check_machine() {
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s), not Linux." "Spillover's edge runs on Linux."
    case $(getconf GNU_LIBC_VERSION 2> /dev/null || true) in
        "glibc 2."*) minor=$(getconf GNU_LIBC_VERSION | sed 's/^glibc 2\.\([0-9]*\).*/\1/') ;;
        *) fail "this system has no glibc (Alpine and others have musl)." \
            "Use Raspberry Pi OS, Debian, Ubuntu or another system with glibc 2.28 or later." ;;
    esac
    [ "$minor" -ge 28 ] || fail "glibc is 2.$minor; 2.28 or later is needed." \
        "Upgrade the system: Debian 10, Ubuntu 20.04 and whatever is newer have it."
    [ "$(getconf LONG_BIT)" = 64 ] || fail "this system is a 32-bit one (its programs are, whatever the kernel is)." \
        "Install the 64-bit Raspberry Pi OS: ONNX Runtime has no 32-bit packages."
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) fail "the processor is $(uname -m)." "x86-64 and aarch64 are supported." ;;
    esac
}

# Sets PYTHON to a usable one, or fails with what is wrong with each.
find_python() {
    wanted=${1:-"python3.13 python3.12 python3.11 python3"}
    why=""
    for candidate in $wanted; do
        has "$candidate" || continue
        if found=$("$candidate" -c '
import sys
version = "%d.%d" % sys.version_info[:2]
if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit("is Python " + version)
if sys.maxsize < 2**32:
    sys.exit("is a 32-bit program")
if sys.base_prefix.startswith(("/home/", "/root/")):
    sys.exit("lies in " + sys.base_prefix + ", where the service may not look")
try:
    import ensurepip, venv
except ImportError:
    sys.exit("cannot make virtual environments: apt-get install python" + version + "-venv (or python3-venv)")
print(version)
' 2>&1); then
            PYTHON=$candidate PYTHON_VERSION=$found
            return
        fi
        why="$why $candidate $found."
    done
    fail "no usable Python 3.11, 3.12 or 3.13 among: $wanted.$why" \
        "apt-get install python3 python3-venv, or name one with --python PROGRAM."
}

# Sets HERE, the folder `deploy` with units and requirements, and SOURCE.
find_source() {
    HERE=$(CDPATH='' cd "$(dirname "$0")" && pwd)
    for needed in requirements/edge-mqtt.txt requirements/edge-mqtt-video.txt systemd/spillover-edge@.service; do
        [ -f "$HERE/$needed" ] || fail "$HERE/$needed is not there." \
            "Run this script where it lies in a checkout or an unpacked sdist, not a copy of it alone."
    done
    if [ -z "$SOURCE" ]; then
        SOURCE=$(dirname "$HERE")
    fi
    case $SOURCE in
        *.whl | *.tar.gz) [ -f "$SOURCE" ] || fail "$SOURCE: no such file." "Name a wheel, an sdist or a checkout." ;;
        *) [ -f "$SOURCE/pyproject.toml" ] || fail "$SOURCE is neither a wheel, an sdist nor a checkout." \
            "Name spillover-*.whl, spillover-*.tar.gz, or a folder with pyproject.toml." ;;
    esac
}

check_room() {
    parent=$(dirname "$VENV")
    mkdir -p "$parent"
    free=$(df -Pk "$parent" | awk 'NR == 2 { print $4 }')
    if [ ! -d "$VENV" ] && [ "$free" -lt "$NEEDED_KB" ]; then
        fail "$parent has $((free / 1000)) MB free; $((NEEDED_KB / 1000)) are needed." "Make room on that disk."
    fi
}

make_user() {
    mkdir -p "$(dirname "$SYSUSERS")"
    cp "$HERE/systemd/spillover.sysusers.conf" "$SYSUSERS"
    if has systemd-sysusers; then
        systemd-sysusers spillover.conf
        return
    fi
    for group in spillover video render; do
        grep -q "^$group:" /etc/group || groupadd --system "$group"
    done
    grep -q '^spillover:' /etc/passwd || useradd --system --gid spillover --home-dir / --no-create-home \
        --shell /usr/sbin/nologin spillover
}

make_folders() {
    mkdir -p "$(dirname "$TMPFILES")"
    cp "$HERE/systemd/spillover.tmpfiles.conf" "$TMPFILES"
    install -d -m 0750 -o root -g spillover "$ETC" "$ETC/tls"
    if has systemd-tmpfiles; then
        systemd-tmpfiles --create spillover.conf # keys that are there become readable for the group
    fi
    install -d -m 0755 "$STATE"
    install -d -m 0750 -o spillover -g spillover "$STATE/$INSTANCE" "$STATE/$INSTANCE/models"
}

make_venv() {
    if [ -d "$VENV" ] && ! [ -f "$VENV/pyvenv.cfg" ]; then
        fail "$VENV is there and is no virtual environment." "Move it away; this script makes it anew."
    fi
    if [ "$VIDEO" = yes ] || "$VENV/bin/python" -c 'import av' 2> /dev/null; then
        requirements=edge-mqtt-video.txt libraries=", av"
    else
        requirements=edge-mqtt.txt libraries=""
    fi
    # One of another Python, or a broken one, is made anew. PEP 668: the system's own Python is left alone.
    if [ "$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)" != "$PYTHON_VERSION" ]; then
        "$PYTHON" -m venv --clear "$VENV"
    fi
    # /tmp is in memory on some systems, and too small for wheels.
    pip="env TMPDIR=/var/tmp $VENV/bin/python -m pip --quiet --disable-pip-version-check --no-input install --no-cache-dir"
    $pip --require-hashes --only-binary :all: -r "$HERE/requirements/$requirements" || fail \
        "pip could not install what Spillover needs; its last lines say why." \
        "Check network and index (pip config list), then run this again: it goes on where it stopped."
    $pip --no-deps --force-reinstall "$SOURCE" || fail "pip could not install $SOURCE." \
        "Building from a checkout or an sdist needs hatchling from the index; a wheel needs nothing more."
    "$VENV/bin/python" -c "import cv2, cryptography, google_crc32c, grpc, msgspec, onnxruntime, paho.mqtt$libraries" || fail \
        "a library does not load; the line above says which." "apt-get install libstdc++6 is what some systems lack."
}

write_units() {
    mkdir -p "$UNITS"
    cp "$HERE/systemd/spillover-edge@.service" "$UNIT"
    version=$(systemctl --version 2> /dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge 254 ]; then
        mkdir -p "$DROP_IN"
        cp "$HERE/systemd/edge-backoff.conf" "$DROP_IN/backoff.conf"
    fi
}

# Never overwrites one that is there.
write_config() {
    config=$ETC/edge-$INSTANCE.yaml
    if [ -e "$config" ]; then
        say "  $config is kept as it is"
        return
    fi
    cat > "$config" << 'END'
# Every key and its default: examples/edge.yaml of the source. Relative paths are below the state folder.
mode: edge_only                 # hybrid, with `uplink`, once there is a cloud
camera:
  source: /dev/video0           # csi for a Pi's own camera; or rtsp://...
model:
  folder: model/1               # below models/ in the state folder
sinks:
  - kind: jsonl
    path: results.jsonl
    rotate_mb: 50               # begins a new file by itself: no logrotate is needed
END
    chown root:spillover "$config"
    chmod 0640 "$config"
}

install_edge() {
    check_machine
    find_python "$PYTHON"
    find_source
    check_room
    step "user spillover"
    make_user
    step "folders $ETC and $STATE/$INSTANCE"
    make_folders
    step "virtual environment $VENV with $PYTHON (Python $PYTHON_VERSION), from $SOURCE"
    make_venv
    step "unit $UNIT"
    write_units
    step "configuration $ETC/edge-$INSTANCE.yaml"
    write_config
    if systemd_runs; then
        systemctl daemon-reload
        systemctl try-restart 'spillover-edge@*.service'
    else
        say "  systemd does not run here: the unit is written, and nothing is started"
    fi
    say "
Installed: $("$VENV/bin/spillover" --version). Next:
  1. a model:    a folder with model.onnx and model.yaml at $STATE/$INSTANCE/models/model/1
  2. the camera: edit $ETC/edge-$INSTANCE.yaml
  3. check:      env -C $STATE/$INSTANCE SPILLOVER_HOME=$STATE/$INSTANCE \\
                   setpriv --reuid=spillover --regid=spillover --groups=video,render \\
                   $VENV/bin/spillover doctor -c $ETC/edge-$INSTANCE.yaml
  4. start:      systemctl enable --now spillover-edge@$INSTANCE
  5. look:       journalctl -fu spillover-edge@$INSTANCE
                 $VENV/bin/spillover edge status -c $ETC/edge-$INSTANCE.yaml
After a change of the configuration: systemctl reload spillover-edge@$INSTANCE. Results rotate by themselves and
the log is the journal's, so logrotate has nothing to do."
}

uninstall_edge() {
    if systemd_runs; then
        step "stop and disable spillover-edge@*"
        systemctl stop 'spillover-edge@*.service' || true
    fi
    rm -f "$UNITS"/*.wants/spillover-edge@*.service
    step "remove units"
    rm -rf "$UNIT" "$DROP_IN"
    if systemd_runs; then
        systemctl daemon-reload
    fi
    if [ -e "$CLOUD_UNIT" ]; then
        say "  $CLOUD_UNIT is there: $VENV, the user and $ETC stay"
    else
        rm -f "$SYSUSERS" "$TMPFILES"
        if [ -f "$VENV/pyvenv.cfg" ]; then
            step "remove $VENV"
            rm -rf "$VENV"
        fi
    fi
    if [ "$PURGE" = no ]; then
        say "Kept: $ETC, $STATE and the user spillover; --uninstall --purge removes them, too."
        return
    fi
    step "remove $STATE"
    rm -rf "$STATE"
    if ! [ -e "$CLOUD_UNIT" ]; then
        step "remove $ETC and the user spillover"
        rm -rf "$ETC"
        if grep -q '^spillover:' /etc/passwd; then
            userdel spillover
        fi
        if grep -q '^spillover:' /etc/group; then
            groupdel spillover
        fi
    fi
}

SOURCE="" INSTANCE=main PYTHON="" PURGE=no VIDEO=no ACTION=install
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --uninstall) ACTION=uninstall ;;
        --purge) PURGE=yes ;;
        --video) VIDEO=yes ;;
        --instance | --python)
            [ $# -gt 1 ] || fail "$1 wants a value." "See --help."
            if [ "$1" = --python ]; then PYTHON=$2; else INSTANCE=$2; fi
            shift
            ;;
        -*) fail "unknown option $1." "See --help." ;;
        *)
            [ -z "$SOURCE" ] || fail "two sources: $SOURCE and $1." "Give one wheel, sdist or checkout."
            SOURCE=$1
            ;;
    esac
    shift
done
case $INSTANCE in
    "" | [.-]* | *[!A-Za-z0-9_.-]*)
        fail "the instance's name is '$INSTANCE'." "Use letters, digits, _ . - and begin with none of the last two."
        ;;
esac
[ "$PURGE" = no ] || [ "$ACTION" = uninstall ] || fail "--purge goes with --uninstall." "See --help."
[ "$(id -u)" = 0 ] || fail "this needs root." "Run: sudo sh $0"

if [ "$ACTION" = uninstall ]; then uninstall_edge; else install_edge; fi
