"""The feature codec: what goes in comes out, within half a step; what is not features is refused."""

import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.errors import InvalidInputError, TooLargeError
from spillover.common.features.codec import (
    decode_features,
    decode_symbols,
    encode_features,
    encode_symbols,
)
from spillover.common.features.packing import pack, packed_size, symbols_per_byte, unpack
from spillover.common.features.quantized import quantize_features
from spillover.common.features.quantizer import Quantizer, scaled

LIMIT = 1 << 16


@st.composite
def _coded(draw):
    """Tensors of odd shapes with quantisers of every kind."""
    tensors, quantizers = [], []
    for _ in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
        random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        tensors.append((random.laplace(size=shape) * draw(st.floats(0.01, 1e4))).astype(np.float32))
        low, width = draw(st.floats(-1e3, 1e3)), draw(st.floats(0.1, 1e4))
        high = low + width
        ends = np.sort(random.uniform(low, high, (2, shape[0])), axis=0)
        per_channel = draw(st.booleans())
        quantizers.append(
            Quantizer(
                levels=draw(st.integers(2, 255)),
                low=low,
                high=high,
                channel_low=tuple(ends[0].tolist()) if per_channel else (),
                channel_high=tuple(ends[1].tolist()) if per_channel else (),
                order=tuple(random.permutation(shape[0]).tolist()) if draw(st.booleans()) else (),
                predict=draw(st.booleans()),
            )
        )
    return tensors, quantizers


@given(_coded())
def test_decoded_features_are_the_clipped_ones_within_half_a_step(coded):
    """Whatever the quantiser: each value comes back as the nearest level of its clipped self."""
    tensors, quantizers = coded
    decoded = decode_features(encode_features(tensors, quantizers), LIMIT)
    for tensor, quantizer, values in zip(tensors, quantizers, decoded, strict=True):
        assert values.shape == tensor.shape
        low, high = np.float64(quantizer.low), np.float64(quantizer.high)
        rounding = (high - low) / 255  # what a channel's clip may grow by on its way through one byte
        if quantizer.channel_low:
            axes = (-1, *[1] * (tensor.ndim - 1))
            low, high = (np.reshape(part, axes) for part in (quantizer.channel_low, quantizer.channel_high))
        else:
            rounding = 0
        step = (high - low + 2 * rounding) / (quantizer.levels - 1)
        slack = step / 2 + rounding + 1e-5 * np.maximum(np.abs(low), np.abs(high))
        assert (np.abs(values - np.clip(tensor, low, high)) <= slack).all()


@given(_coded())
def test_coding_what_was_decoded_changes_nothing(coded):
    """Decoded values are on the levels: coding them once more gives them again, to float32's rounding."""
    tensors, quantizers = coded
    once = decode_features(encode_features(tensors, quantizers), LIMIT)
    twice = decode_features(encode_features(once, quantizers), LIMIT)
    for first, second, quantizer in zip(once, twice, quantizers, strict=True):
        rounding = 1e-6 * max(abs(quantizer.low), abs(quantizer.high))
        assert second == pytest.approx(first, rel=0, abs=rounding)


@given(st.integers(2, 255), st.binary(max_size=200))
def test_packing_loses_no_symbol(levels, data):
    """Symbols in, symbols out, in the number of bytes that is promised."""
    symbols = (np.frombuffer(data, np.uint8) % levels).astype(np.uint8)
    packed = pack(symbols, levels)
    assert len(packed) == packed_size(symbols.size, levels) <= -(-symbols.size // symbols_per_byte(levels))
    assert (unpack(packed, symbols.size, levels) == symbols).all()


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_one_kind_of_error(data):
    """Nothing but InvalidInputError leaves the decoder."""
    with pytest.raises(InvalidInputError):
        decode_features(data, LIMIT)


@settings(max_examples=500)
@given(_coded(), st.data())
def test_damaged_features_with_a_right_checksum_are_refused_or_stay_in_bounds(coded, data):
    """A hostile sender can compute the checksum: what it gets is an error or tensors below the limit."""
    good = bytearray(encode_features(*coded))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(8, len(good) - 1))] = data.draw(st.integers(0, 255))
    good = good[: data.draw(st.integers(8, len(good)))]
    good[4:8] = zlib.crc32(good[8:]).to_bytes(4, "little")
    try:
        decoded = decode_features(bytes(good), LIMIT)
    except InvalidInputError:
        return
    assert sum(tensor.size for tensor in decoded) <= LIMIT
    assert all(np.isfinite(tensor).all() for tensor in decoded)


def test_a_flipped_bit_is_noticed():
    """The checksum covers header and stream."""
    good = encode_features([np.ones((3, 4, 4), np.float32)], [Quantizer(levels=4, low=0, high=2)])
    for position in range(8, len(good)):
        bad = bytearray(good)
        bad[position] ^= 1
        with pytest.raises(InvalidInputError, match="checksum"):
            decode_features(bytes(bad), LIMIT)


def test_a_header_that_promises_too_much_is_refused_before_anything_is_allocated():
    """65535^3 elements in a few bytes: the limit is looked at first."""
    good = encode_features([np.ones((1, 1, 1), np.float32)], [Quantizer(levels=2, low=0, high=1)])
    body = bytearray(good[8:])
    body[3:9] = b"\xff" * 6
    with pytest.raises(TooLargeError, match="limit is 65536"):
        decode_features(good[:4] + zlib.crc32(body).to_bytes(4, "little") + bytes(body), LIMIT)


def test_a_stream_that_inflates_past_its_size_is_cut_off():
    """A deflate bomb behind a modest header is an error, and costs no more than the header promised."""
    good = encode_features([np.ones((1, 1, 1), np.float32)], [Quantizer(levels=2, low=0, high=1)])
    header = good[8:25]
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = header + bomb.compress(bytes(10_000_000)) + bomb.flush()
    with pytest.raises(InvalidInputError, match="does not hold"):
        decode_features(good[:4] + zlib.crc32(body).to_bytes(4, "little") + body, LIMIT)


def test_another_version_is_named():
    """A newer peer's format is refused by its number, not misread."""
    good = bytearray(encode_features([np.ones(3, np.float32)], [Quantizer(levels=2, low=0, high=1)]))
    good[2] = 9
    with pytest.raises(InvalidInputError, match="version 9"):
        decode_features(bytes(good), LIMIT)


def test_values_that_are_no_numbers_are_refused_by_the_sender():
    """A broken head is found where it runs."""
    with pytest.raises(InvalidInputError, match="not a number"):
        encode_features([np.array([np.nan], np.float32)], [Quantizer(levels=2, low=0, high=1)])


def test_few_levels_cost_less_than_a_bit_an_element():
    """Packing lets a Huffman code pass below its one bit a symbol, which sparse features need."""
    random = np.random.default_rng(0)
    sparse = (random.uniform(size=(64, 16, 16)) > 0.95).astype(np.float32)
    coded = encode_features([sparse], [Quantizer(levels=3, low=0, high=2)])
    assert len(coded) * 8 < 0.45 * sparse.size


@st.composite
def _moved(draw):
    """Tensors, the same a little later, and quantisers; some of the values have moved, by much or little."""
    before, quantizers = draw(_coded())
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share, reach = draw(st.floats(0, 1)), draw(st.floats(0, 2))
    after = []
    for tensor, quantizer in zip(before, quantizers, strict=True):
        moves = random.normal(size=tensor.shape) * reach * (quantizer.high - quantizer.low)
        after.append((tensor + moves * (random.uniform(size=tensor.shape) < share)).astype(np.float32))
    return before, after, quantizers


@given(_moved(), st.floats(0, 3))
def test_changes_lead_to_the_symbols_that_the_sender_has(moved, dead_zone):
    """Whatever has changed, and whatever the quantiser: the same symbols, digest and values on both sides."""
    before, after, quantizers = moved
    reference = quantize_features(before, quantizers)
    sent = quantize_features(after, quantizers, reference, dead_zone)
    got = decode_symbols(encode_symbols(sent, reference), LIMIT, reference)
    assert got.digest() == sent.digest()
    for ours, theirs in zip(sent.symbols, got.symbols, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert theirs.flags.c_contiguous
    for ours, theirs in zip(sent.tensors(), got.tensors(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(_moved())
def test_without_a_dead_zone_a_reference_changes_no_symbol(moved):
    """Features against a reference are then, bit for bit, what they are alone."""
    before, after, quantizers = moved
    alone = quantize_features(after, quantizers)
    against = quantize_features(after, quantizers, quantize_features(before, quantizers), 0.0)
    assert against.digest() == alone.digest() == decode_symbols(encode_symbols(alone), LIMIT).digest()


@given(_moved(), st.floats(0.5, 3))
def test_a_symbol_stays_unless_its_value_leaves_the_dead_zone(moved, dead_zone):
    """Then it is the nearest one; so no value is ever further from its symbol than the zone is wide."""
    before, after, quantizers = moved
    reference = quantize_features(before, quantizers)
    kept = quantize_features(after, quantizers, reference, dead_zone)
    fresh = quantize_features(after, quantizers)
    for tensor, old, new, near, coding in zip(
        after, reference.symbols, kept.symbols, fresh.symbols, kept.codings, strict=True
    ):
        place = scaled(np.clip(tensor, np.float32(coding.low), np.float32(coding.high)), *coding.scale())
        place = np.clip(place, 0, coding.levels - 1)
        stays = np.abs(place - old) <= np.float32(dead_zone)
        np.testing.assert_array_equal(new, np.where(stays, old, near))


@settings(max_examples=500)
@given(_moved(), st.data())
def test_damaged_changes_with_a_right_checksum_are_refused_or_stay_in_bounds(moved, data):
    """What a hostile sender gets is an error, or symbols of the reference's shapes below its levels."""
    before, after, quantizers = moved
    reference = quantize_features(before, quantizers)
    good = bytearray(encode_symbols(quantize_features(after, quantizers, reference, 0.6), reference))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(8, len(good) - 1))] = data.draw(st.integers(0, 255))
    good = good[: data.draw(st.integers(8, len(good)))]
    good[4:8] = zlib.crc32(good[8:]).to_bytes(4, "little")
    try:
        got = decode_symbols(bytes(good), LIMIT, reference)
    except InvalidInputError:
        return
    for symbols, coding in zip(got.symbols, reference.codings, strict=True):
        assert symbols.shape == coding.shape
        assert symbols.max() < coding.levels


@given(st.lists(st.integers(0, 255), max_size=40), st.integers(0, 2**32 - 1))
def test_any_changes_that_a_sender_can_write_are_refused_or_stay_in_bounds(body, count):
    """Gaps past the last symbol, more changes than symbols, bytes that stand for none."""
    reference = quantize_features(
        [np.zeros((3, 2, 2), np.float32), np.zeros(5, np.float32)],
        [Quantizer(levels=9, low=0, high=1), Quantizer(levels=2, low=0, high=1)],
    )
    data = _against(reference, bytes(body), count % 20 if count % 3 else count)
    try:
        got = decode_symbols(data, LIMIT, reference)
    except InvalidInputError:
        return
    assert [symbols.shape for symbols in got.symbols] == [(3, 2, 2), (5,)]
    assert got.symbols[0].max() < 9
    assert got.symbols[1].max() < 2


def _against(reference, plain, changes, form=None):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    form = zlib.crc32(reference.form) if form is None else form
    body = struct.pack("<II", form, changes) + deflate.compress(plain) + deflate.flush()
    return struct.pack("<2sBBI", b"SF", 2, len(reference.codings), zlib.crc32(body)) + body


def test_changes_that_inflate_past_their_count_are_cut_off():
    """A bomb costs no more than the changes that it claims, and those no more than the symbols there are."""
    reference = quantize_features([np.zeros((4, 8, 8), np.float32)], [Quantizer(levels=9, low=0, high=1)])
    with pytest.raises(InvalidInputError, match="does not hold"):
        decode_symbols(_against(reference, bytes(10_000_000), 256), LIMIT, reference)
    with pytest.raises(InvalidInputError, match="257 of 256 symbols change"):
        decode_symbols(_against(reference, bytes(257), 257), LIMIT, reference)
    with pytest.raises(TooLargeError, match="limit is 255"):
        decode_symbols(_against(reference, b"", 0), 255, reference)


@pytest.mark.parametrize(
    ("shape", "quantizer"),
    [
        ((3, 4, 4), Quantizer(levels=5, low=0, high=2)),
        ((4, 3, 4), Quantizer(levels=4, low=0, high=2)),
        ((3, 4, 4), Quantizer(levels=4, low=0, high=3)),
        ((3, 4, 4), Quantizer(levels=4, low=0, high=2, channel_low=(0, 0, 0), channel_high=(1, 2, 2))),
    ],
    ids=["levels", "shape", "clip", "channels"],
)
def test_a_reference_of_another_form_is_refused_on_both_sides(shape, quantizer):
    """Symbols of other levels, shapes or clips stand for other values: nothing is made of them."""
    ours = quantize_features([np.ones((3, 4, 4), np.float32)], [Quantizer(levels=4, low=0, high=2)])
    other = quantize_features([np.ones(shape, np.float32)], [quantizer])
    with pytest.raises(InvalidInputError, match="other shapes, levels or clips"):
        encode_symbols(ours, other)
    with pytest.raises(InvalidInputError, match="other shapes, levels or clips"):
        decode_symbols(encode_symbols(ours, ours), LIMIT, other)


def test_changes_are_not_features_by_themselves():
    """Who has no reference is told so."""
    ours = quantize_features([np.ones((3, 4, 4), np.float32)], [Quantizer(levels=4, low=0, high=2)])
    with pytest.raises(InvalidInputError, match="coded against others, and none are named"):
        decode_features(encode_symbols(ours, ours), LIMIT)


def test_symbols_do_not_keep_the_payload_that_they_came_in():
    """A server keeps them as references and charges for them alone; a payload may be padded to megabytes."""
    quantizer = Quantizer(levels=4, low=0, high=2, channel_low=(0, 0, 0), channel_high=(1, 2, 2))
    data = encode_features([np.ones((3, 4, 4), np.float32)], [quantizer])
    before = sys.getrefcount(data)
    held = decode_symbols(data, LIMIT)
    assert held.codings[0].channels is not None
    assert sys.getrefcount(data) == before


def test_what_has_not_changed_costs_nothing():
    """A camera that sees the same again sends a header."""
    random = np.random.default_rng(0)
    tensor = random.normal(size=(32, 26, 26)).astype(np.float32)
    quantizer = Quantizer(levels=9, low=-2, high=2)
    reference = quantize_features([tensor], [quantizer])
    noisy = tensor + random.uniform(-0.2, 0.2, tensor.shape).astype(np.float32)
    again = quantize_features([noisy], [quantizer], reference, 0.9)
    assert len(encode_symbols(again, reference)) <= 24
