"""Streams of inter-coded payloads: forged, of others, huge, slow, many; no wrong picture is answered."""

import os
import random

from tests.attack.attempts.pictures import BUSY
from tests.attack.h264 import SIDE, Sender, giants, key, moving, of_other_kinds, still, video
from tests.attack.messages import INFER, JPEG, frame
from tests.attack.suite import Scene, attempt
from tests.attack.wire import Stream
from tests.attack.world import GOOD, Kind, Mode

NO_REFERENCE = ("FAILED_PRECONDITION",)
"""What a stream's sender can mend by a key, or by a picture without a stream."""
REFUSED = (*NO_REFERENCE, "INVALID_ARGUMENT")


@attempt(Kind(), *REFUSED, streams=True)
def forged_references(scene: Scene) -> None:
    """References that nobody has sent, digests of other pictures, other sizes, no key."""
    sender = key()
    scene.saw(scene.call(INFER, sender.message()), {"OK"}, "a good key")
    good, digest = sender.next(moving(1)).packets[1], sender.digest
    mine = sender.stream_id
    cases = {
        "digest": video([good], mine, 2, 1, digest ^ 1),
        "unknown stream": video([good], os.urandom(8), 2, 1, digest),
        "reference ahead": video([good], mine, 9, 8, digest),
        "last number": video([good], mine, 2**32 - 1, 2**32 - 2, digest),
        "wrong digest of a key": video([key().packets[0]], os.urandom(8), 1, 0, digest),
        "no key": video([good], os.urandom(8), 1, 0, digest),
        "size": video([good], mine, 2, 1, digest, (2 * SIDE, SIDE)),
    }
    for what, message in cases.items():
        scene.saw(scene.call(INFER, message), what=what)
    fresh = key()
    scene.saw(scene.call(INFER, fresh.message()), {"OK"}, "a key afterwards")
    scene.saw(scene.call(INFER, fresh.next(moving(1)).message()), {"OK"}, "and what follows it")


@attempt(Kind(), *REFUSED, streams=True)
def other_pictures_under_old_numbers(scene: Scene) -> None:
    """A number that was answered comes again with another picture: it is not answered from memory."""
    sender = key()
    scene.saw(scene.call(INFER, sender.message()), {"OK"})
    other = Sender(stream_id=sender.stream_id).next(moving(9))
    scene.saw(
        scene.call(INFER, video(sender.packets, sender.stream_id, 1, 0, other.digest)), what="its digest"
    )
    scene.saw(scene.call(INFER, other.message()), {"OK", *REFUSED}, "all of it")


@attempt(Kind(Mode.TOKEN), *NO_REFERENCE, streams=True)
def streams_of_others(scene: Scene) -> None:
    """A device goes on with another one's stream, whose id it knows, and begins one of the same id."""
    sender = key()
    scene.saw(scene.call(INFER, sender.message(), who=GOOD), {"OK"}, "the owner's key")
    sender.next(moving(1))
    scene.saw(scene.call(INFER, sender.message()), what="another goes on")
    mine = Sender(stream_id=sender.stream_id).next(moving(7))
    scene.saw(scene.call(INFER, mine.message()), {"OK"}, "a stream of the same id")
    scene.saw(scene.call(INFER, mine.next(moving(8)).message()), {"OK"}, "and what follows it")
    scene.saw(scene.call(INFER, sender.message(), who=GOOD), {"OK"}, "the owner goes on")


@attempt(Kind(), *REFUSED, streams=True)
def giant_parameter_sets(scene: Scene) -> None:
    """Parameter sets of 268 million pixels and more, in messages that say 32 x 32 pixels or as much."""
    for packet in giants():
        scene.saw(scene.call(INFER, video([packet], os.urandom(8))))
    packet = key().packets[0]
    for size in ((16_384, 16_384), (2**31, 2**31), (2**32 - 2, 2), (65_534, 65_534), (SIDE + 2, SIDE)):
        scene.saw(scene.call(INFER, video([packet], os.urandom(8), size=size)), what=str(size))


@attempt(Kind(), *REFUSED, streams=True)
def video_of_other_kinds(scene: Scene) -> None:
    """4:4:4, 10 bits, grey, B frames, interlaced, MPEG-4, JPEG, under a made-up digest."""
    for packets in of_other_kinds():
        scene.saw(scene.call(INFER, video(packets, os.urandom(8), len(packets))))


@attempt(Kind(), *REFUSED, streams=True)
def garbage_packets(scene: Scene) -> None:
    """Noise, good packets with bytes changed, cut short, doubled or left out: never an answer."""
    rng = random.Random(3)
    good = key()
    for number in range(1, 6):
        good.next(moving(number))
    digest = good.digest
    for _ in range(scene.of(1500, 150)):
        packets = [bytearray(packet) for packet in good.packets]
        match rng.randrange(5):
            case 0:
                packets = [bytearray(rng.randbytes(rng.randrange(300)))]
            case 1:
                del packets[rng.randrange(len(packets))]
            case 2:
                packets[rng.randrange(len(packets))] *= 2
            case 3:
                hurt = packets[rng.randrange(len(packets))]
                del hurt[rng.randrange(len(hurt)) :]
            case _:
                hurt = packets[rng.randrange(len(packets))]
                at = rng.randrange(len(hurt))
                hurt[at] ^= 1 + rng.randrange(255)
        sent = tuple(bytes(packet) for packet in packets)
        # What was changed may be what no decoder reads, such as the encoder's name.
        scene.saw(
            scene.call(INFER, video(sent, os.urandom(8), len(sent), 0, digest)), (*REFUSED, "OK"), "damaged"
        )
    scene.saw(scene.call(INFER, video([b""], os.urandom(8))), what="empty")
    scene.saw(scene.call(INFER, video([good.packets[0]] * 257, os.urandom(8), 257)), what="257 packets")


@attempt(Kind(Mode.TOKEN), "OK", *NO_REFERENCE, *BUSY, streams=True)
def thousands_of_tiny_streams(scene: Scene) -> None:
    """One key for each of thousands of streams by one device; pictures alone are answered all the while."""
    sender = key()
    for number in range(scene.of(5000, 600)):
        message = video(sender.packets, number.to_bytes(8, "big"), 1, 0, sender.digest)
        scene.saw(scene.call(INFER, message))
    scene.saw(scene.call(INFER, frame()), {"OK"}, "a picture")
    scene.saw(scene.call(INFER, frame(JPEG), who=GOOD), {"OK"}, "another's picture")


@attempt(Kind(Mode.TOKEN, fresh=True), "OK", *NO_REFERENCE, *BUSY, streams=True)
def large_streams(scene: Scene) -> None:
    """Streams of 1024 x 768 pixels, with 16 references or one, as many as are taken."""
    for number in range(scene.of(200, 24)):
        packets, digest = still(1024, 768, 16, 16 if number % 2 else 1)
        name = number.to_bytes(8, "little")
        scene.saw(scene.call(INFER, video(packets, name, len(packets), 0, digest, (1024, 768))))
    scene.require(scene.statuses["OK"] > 0, "none is taken")


@attempt(Kind(Mode.TOKEN), *NO_REFERENCE, *BUSY, short=False, streams=True)
def payloads_of_too_many_pictures(scene: Scene) -> None:
    """Sixteen pictures of 24 million pixels in one payload of 300 kB, 16 of them under way."""
    packets, digest = still(6000, 4000, 16)
    body = video(packets, b"too_many", 16, 0, digest, (6000, 4000))
    scene.keep_calling(INFER, [(scene.connect(), body)], 16, scene.of(20, 2))


@attempt(Kind(Mode.TOKEN, fresh=True), "OK", *NO_REFERENCE, *BUSY, streams=True)
def payloads_that_are_dear_to_decode(scene: Scene) -> None:
    """As many pictures of 640 x 608 as one payload may have, each payload a new key, 16 under way."""
    packets, digest = still(640, 608, 256)
    connection, calls, number = scene.connect(), list[Stream](), 0

    def refill() -> bool:
        nonlocal number
        for ended in [call for call in calls if call.status]:
            calls.remove(ended)
            scene.saw(ended.status)
        while len(calls) < 16 and not connection.ending:
            number += len(packets)
            body = video(packets, b"dear_one", number, 0, digest, (640, 608))
            calls.append(connection.call(INFER, body))
        return False

    scene.pump(refill, scene.of(20, 3))
    scene.require(scene.statuses["OK"] > 0, "none is answered")


@attempt(Kind(Mode.TOKEN), "OK", *NO_REFERENCE, *BUSY, streams=True)
def slow_streams(scene: Scene) -> None:
    """Streams that are kept alive by one packet now and then; another device can begin one all the same."""
    senders = [key() for _ in range(scene.of(600, 100))]
    for turn in range(scene.of(5, 2)):
        for sender in senders:
            scene.saw(
                scene.call(INFER, sender.message() if not turn else sender.next(moving(turn)).message())
            )
    scene.saw(scene.call(INFER, key().message(), who=GOOD), {"OK"}, "another's key")
