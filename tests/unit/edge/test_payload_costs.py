"""The form of a frame, chosen by predicted latency; the cost of a link and of a form, learnt from calls."""

import threading
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.features.quantizer import Quantizer
from spillover.common.geometry import FrameTransform
from spillover.common.images import decode_jpeg
from spillover.common.model.split import AtAge, Cut, InterCoding, Seam
from spillover.common.types import Action, Classification, Decision
from spillover.edge.config import PayloadKind, PictureVariant, UplinkConfig
from spillover.edge.link.estimator import PRIOR
from spillover.edge.link.payload_costs import (
    REFUSED_S,
    PayloadCostModel,
    build_payload_costs,
    cut_forms,
    picture_forms,
)
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.payload.encoder import PICTURE, VIDEO, encode_variant
from spillover.edge.payload.streams import Outlook
from spillover.edge.policy.base import Context
from spillover.edge.policy.forms import ChoosePayload, choose_payload
from tests.support.jpeg import jpeg_size
from tests.support.slow_disk import Gate, returns

NOTHING = Classification(np.zeros(1, np.int32), np.ones(1, np.float32))
CUT = Cut(
    name="cut",
    seams=(Seam(tensor="t", shape=(8, 4, 4), quantizer=Quantizer(levels=4, low=0, high=1)),),
    head_sha256="0" * 64,
    tail_sha256="1" * 64,
    feature_bytes=1500,
    fidelity=0.99,
)


def _option(name, latency_s, fidelity=1.0, action=Action.SEND_FRAME):
    return PayloadOption(name, action, 1000, latency_s, fidelity, encode_s=0.02, server_s=0.03)


def test_the_quickest_of_those_that_are_good_enough_is_taken():
    """A form that keeps nearly everything and is quicker wins; one that loses much does not."""
    options = [_option("jpeg", 0.3), _option("cut", 0.15, 0.99), _option("poor", 0.1, 0.7)]
    assert choose_payload(options, time_left_s=1).name == "cut"


def test_quick_and_poor_is_taken_where_nothing_better_is_in_time():
    """Half an answer by the deadline is more than a whole one behind it."""
    options = [_option("jpeg", 0.3), _option("cut", 0.15, 0.99), _option("poor", 0.1, 0.7)]
    assert choose_payload(options, time_left_s=0.12).name == "poor"


def test_a_trace_that_waits_for_its_disk_holds_up_no_decision():
    """While a call is written to the link's trace, the view that the next frame's decision needs is given."""
    gate = Gate(lambda *_: None)
    costs = PayloadCostModel(cut_forms([CUT]), PayloadKind.AUTO, lambda: 0.0, gate)
    upload = costs.departed("cut", 1500, 1.0)
    caller = threading.Thread(target=costs.answered, args=("cut", upload, 0.1, 0.01))
    caller.start()
    gate.wait_until_reached()
    assert returns(costs.view)
    gate.open()
    caller.join(30)


def test_when_nothing_is_in_time_the_quickest_goes():
    """Its answer may still come as a revision."""
    assert choose_payload([_option("jpeg", 0.3), _option("cut", 0.15)], 0.01).name == "cut"


@given(st.lists(st.tuples(st.floats(0.01, 2), st.floats(0, 1)), min_size=1, max_size=6), st.floats(0.01, 2))
def test_no_option_as_good_is_passed_over_for_a_slower_one(pairs, time_left_s):
    """Whatever the options."""
    options = [_option(str(i), latency_s, fidelity) for i, (latency_s, fidelity) in enumerate(pairs)]
    chosen = choose_payload(options, time_left_s)
    for option in options:
        if option.latency_s <= time_left_s and option.fidelity >= chosen.fidelity:
            assert chosen.latency_s <= option.latency_s


def test_a_decision_to_send_says_in_which_form_and_what_was_expected():
    """Action, form, latency and gain are the chosen option's; every number of all stays to be replayed."""
    options = (_option("picture", 0.3), _option("cut", 0.1, 0.9, Action.SEND_FEATURES))
    context = Context(time_left_s=0.2, link=LinkState(view=LinkView(options=options)))
    sends = Decision(Action.SEND_FRAME, "because", expected_gain=0.5)
    decision = ChoosePayload()(sends, context)
    assert (decision.action, decision.payload, decision.reason) == (Action.SEND_FEATURES, "cut", "because")
    assert decision.expected_gain == pytest.approx(0.45)
    assert decision.predicted_latency_s == 0.1
    assert decision.inputs == {
        "time_left_s": 0.2,
        "latency_s.picture": 0.3,
        "payload_bytes.picture": 1000,
        "encode_s.picture": 0.02,
        "server_s.picture": 0.03,
        "fidelity.picture": 1.0,
        "latency_s.cut": 0.1,
        "payload_bytes.cut": 1000,
        "encode_s.cut": 0.02,
        "server_s.cut": 0.03,
        "fidelity.cut": 0.9,
        "is_features.cut": 1.0,
    }


def test_without_a_choice_decisions_pass_as_they_are():
    """No options, or nothing to send."""
    for action, options in ((Action.SEND_FRAME, ()), (Action.KEEP, (_option("cut", 0.1),))):
        context = Context(time_left_s=1, link=LinkState(view=LinkView(options=options)))
        decision = Decision(action, "because")
        assert ChoosePayload()(decision, context) is decision


def test_before_the_first_call_the_prior_holds():
    """Nothing noted: the book reckons with the prior."""
    assert _book(PayloadKind.AUTO).view().estimate == PRIOR


RUNG = PictureVariant(jpeg_quality=60, longest_side=320, fidelity=0.8)


def _book(kind, clock=time.monotonic):
    pictures = picture_forms(PictureVariant(jpeg_quality=85), [])
    return PayloadCostModel(
        cut_forms([CUT]) if kind is PayloadKind.FEATURES_ONLY else pictures | cut_forms([CUT]), kind, clock
    )


def test_a_smaller_picture_is_expected_to_be_smaller_before_it_was_ever_sent():
    """What the usual picture weighs tells what the others will."""
    book = PayloadCostModel(picture_forms(PictureVariant(jpeg_quality=85), [RUNG]), PayloadKind.PICTURE)
    book.made(PICTURE, 200_000, 0.005)
    usual, small = book.options()
    assert usual.payload_bytes == 200_000
    assert 5_000 < small.payload_bytes < 40_000


def test_a_link_that_is_late_for_the_usual_picture_gets_a_smaller_one():
    """After some calls over 40 kB/s only the small picture can be back within a second."""
    now_s = 0.0
    forms = picture_forms(PictureVariant(jpeg_quality=85), [RUNG])
    book = PayloadCostModel(forms, PayloadKind.PICTURE, lambda: now_s)
    for _ in range(30):
        book.made(PICTURE, 80_000, 0.005)
        upload = book.departed(PICTURE, 80_000, 3)
        now_s += 0.03 + 2.0
        book.answered(PICTURE, upload, 0.03 + 2.0, 0.01)
        book.landed(upload)
    assert choose_payload(book.options(), 3).name == PICTURE
    assert choose_payload(book.options(), 1).name == RUNG.name


def test_what_is_under_way_delays_what_comes_after():
    """Until the link has carried it, and at the latest until it has landed."""
    now_s = 0.0
    book = _book(PayloadKind.AUTO, lambda: now_s)
    before = book.options()[0].latency_s
    upload = book.departed(PICTURE, 100_000, 1)
    waits = book.options()[0].latency_s
    assert waits > before + 0.05
    now_s = 0.04
    assert before < book.options()[0].latency_s < waits - 0.03
    now_s = 0.1
    assert book.options()[0].latency_s == before
    now_s = 0.5  # overdue: whatever holds it up stands in the way
    assert book.options()[0].latency_s > before + 0.2
    book.landed(upload)
    assert book.options()[0].latency_s == before


def test_a_frame_that_turns_out_large_is_held_back_where_its_answer_would_be_late():
    """Not one of the usual size, of which the policy knew; and no first frame, whose size is a guess."""
    now_s = 0.0
    book = _book(PayloadKind.AUTO, lambda: now_s)
    assert not book.is_too_large(PICTURE, 900_000, 0.4)
    for _ in range(10):
        book.made(PICTURE, 40_000, 0.005)
        upload = book.departed(PICTURE, 40_000, 1)
        now_s += 0.05 + 40_000 / 4e5 + 0.02
        book.answered(PICTURE, upload, 0.05 + 40_000 / 4e5, 0.02)
    assert not book.is_too_large(PICTURE, 80_000, 0.4)
    assert book.is_too_large(PICTURE, 400_000, 0.4)
    assert not book.is_too_large(PICTURE, 40_000, 0.01)


def test_what_is_handed_over_and_not_yet_encoded_delays_what_comes_after():
    """Two cameras decide in the time in which one frame is encoded: the second knows of the first."""
    book = _book(PayloadKind.AUTO)
    book.landed(book.departed(PICTURE, 100_000, 1))
    assert book.view(in_flight=1).options[0].latency_s > book.view().options[0].latency_s + 0.05


def _names(book):
    return {option.name for option in book.options()}


def test_the_book_learns_what_a_form_costs():
    """A slow head and a quick link: after some frames the picture is predicted to be quicker."""
    now_s = 0.0
    book = _book(PayloadKind.AUTO, lambda: now_s)
    assert choose_payload(book.options(), 1).name == "cut"
    for _ in range(30):
        for name, size, make_s in (("cut", 1500, 0.4), (PICTURE, 20_000, 0.003)):
            book.made(name, size, make_s)
            upload = book.departed(name, size, 1.0)
            now_s += 0.02 + size * 8 / 1e8 + 0.01
            book.answered(name, upload, 0.02 + size * 8 / 1e8, 0.01)
            book.landed(upload)
    assert choose_payload(book.options(), 1).name == PICTURE


def test_a_refused_cut_is_left_alone_for_a_while():
    """Then it is tried again: the server may have been brought up to date."""
    now = 0.0
    book = _book(PayloadKind.FEATURES, lambda: now)
    assert _names(book) == {"cut"}
    book.refused("cut")
    assert _names(book) == {PICTURE}
    now = REFUSED_S + 1
    assert _names(book) == {"cut"}


def test_features_only_never_offers_a_picture():
    """Not even while the server refuses every cut."""
    book = _book(PayloadKind.FEATURES_ONLY)
    book.refused("cut")
    assert _names(book) == {"cut"}


def test_a_gain_file_says_what_rungs_keep_where_the_configuration_does_not() -> None:
    """What is written down by hand has the last word."""
    plain, square = PictureVariant(60, 320), PictureVariant(60, 320, square=True, fidelity=0.5)
    forms = picture_forms(PictureVariant(85), [plain, square], {plain.name: 0.9, square.name: 0.7})
    assert [form.fidelity for form in forms.values()] == [1.0, 0.9, 0.5]
    assert square.name == "picture-q60-320-square"


def test_the_square_of_a_picture_is_its_middle() -> None:
    """As high as the shorter side; what was left out is told, so that boxes could be led back."""
    image = np.zeros((40, 101, 3), np.uint8)
    image[:, 30:71] = 255
    sent = encode_variant(image, PictureVariant(95, square=True))
    assert jpeg_size(sent.data) == (41, 40)
    assert sent.transform == FrameTransform(1, 1, -30, 0, 101, 40)
    assert decode_jpeg(sent.data, 10_000).min() > 250


class Outlooks:
    """What the next frame of the stream will be; the test says it."""

    def __init__(self) -> None:
        self.next: Outlook | None = Outlook()

    def __call__(self, camera_id: str) -> Outlook | None:
        """Of whichever camera."""
        return self.next


def _video_book(outlooks, clock=time.monotonic):
    config = UplinkConfig(payload=PayloadKind.VIDEO, variants=(RUNG,))
    return build_payload_costs(config, (), measured={VIDEO: 0.9}, streams={VIDEO: outlooks})


def test_a_key_does_not_spoil_what_is_known_of_the_others():
    """Each has a size of its own, and the next frame is expected to be what its stream says."""
    outlooks = Outlooks()
    book = _video_book(outlooks)
    for _ in range(6):
        book.made(VIDEO, 20_000, 0.005, key=True)
        for _ in range(4):
            book.made(VIDEO, 1_000, 0.005)
    (video,) = book.options()
    assert (video.name, video.payload_bytes, video.fidelity, video.measured) == (VIDEO, 20_000, 0.9, True)
    outlooks.next = Outlook(key=False)
    assert book.options()[0].payload_bytes == 1_000
    outlooks.next = Outlook(key=False, behind_bytes=3_000)
    assert book.options()[0].payload_bytes == 4_000
    assert book.options()[0].latency_s < video.latency_s


def test_the_first_key_says_what_the_others_may_take():
    """Before there is one: in the proportion that is assumed."""
    outlooks = Outlooks()
    book = _video_book(outlooks)
    outlooks.next = Outlook(key=False)
    before = book.options()[0].payload_bytes
    book.made(VIDEO, 40_000, 0.005, key=True)
    assert before < book.options()[0].payload_bytes == pytest.approx(4_000)
    book.made(VIDEO, 700, 0.005)
    assert book.options()[0].payload_bytes == 700


def test_while_a_stream_pauses_pictures_stand_in_for_it():
    """All of them, and video again once it may be sent; what it takes says nothing about theirs."""
    outlooks = Outlooks()
    book = _video_book(outlooks)
    assert _names(book) == {VIDEO}
    outlooks.next = None
    assert _names(book) == {PICTURE, RUNG.name}
    before = book.options()
    book.made(VIDEO, 100, 0.005, key=True)
    assert book.options() == before
    outlooks.next = Outlook()
    assert _names(book) == {VIDEO}


def test_without_a_codec_video_is_no_form():
    """Pictures are what the configuration can send."""
    config = UplinkConfig(payload=PayloadKind.VIDEO, variants=(RUNG,))
    assert _names(build_payload_costs(config, ())) == {PICTURE, RUNG.name}


def test_a_key_that_was_expected_is_not_too_large():
    """Of its size the policy knew; what is larger than its stream said is held back if it would be late."""
    outlooks = Outlooks()
    book = _video_book(outlooks)
    book.made(VIDEO, 400_000, 0.005, key=True)
    book.made(VIDEO, 1_000, 0.005)
    assert not book.is_too_large(VIDEO, 400_000, 0.1, Outlook(key=True))
    assert book.is_too_large(VIDEO, 600_000, 0.1, Outlook(key=True))
    assert book.is_too_large(VIDEO, 400_000, 0.1, Outlook(key=False))
    assert not book.is_too_large(VIDEO, 301_000, 0.1, Outlook(key=False, behind_bytes=300_000))


def _planned_for_changes(dead_zone=0.9):
    ages = (
        AtAge(frames=1, feature_bytes=200, fidelity=0.99),
        AtAge(frames=8, feature_bytes=500, fidelity=0.985),
    )
    inter = InterCoding(dead_zone=dead_zone, clip="camera.mp4", key_bytes=4000, ages=ages)
    return msgspec.structs.replace(CUT, inter=inter)


def test_features_are_expected_to_take_what_their_reference_allows():
    """A key where the cloud has none, changes where it has some; the plan's figures until it was tried."""
    outlooks = {"cut": Outlook()}
    costs = PayloadCostModel(
        cut_forms([_planned_for_changes()]), PayloadKind.FEATURES, streams={"cut": lambda _: outlooks["cut"]}
    )
    (key,) = costs.view().options
    outlooks["cut"] = Outlook(key=False)
    (change,) = costs.view().options
    assert (key.payload_bytes, change.payload_bytes) == (4000, 500)
    assert (key.fidelity, change.fidelity) == (0.985, 0.985)
    assert key.latency_s > change.latency_s
    costs.made("cut", 300, 0.01)
    assert costs.view().options[0].payload_bytes == 300


def test_without_a_dead_zone_features_keep_what_they_keep_alone():
    """Other frames were judged, but the symbols are the same."""
    assert _planned_for_changes(0.0).usual_fidelity == CUT.fidelity
    assert CUT.usual_bytes == CUT.feature_bytes
