"""Which connections are closed: each bound holds afterwards, and nobody goes who need not."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.connections.rules import (
    VAIN_BURST,
    VAIN_PER_S,
    Cause,
    Connection,
    Rules,
    Standing,
    VainCalls,
    network_of,
    to_close,
)

NOW_S = 1000.0
ADDRESSES = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")


@st.composite
def tables(draw):
    """A few connections of a few addresses and identities."""
    connections = []
    for port in range(draw(st.integers(0, 12))):
        standing = draw(st.sampled_from(Standing))
        since_s = draw(st.floats(900, NOW_S))
        connections.append(
            Connection(
                (draw(st.sampled_from(ADDRESSES)), port),
                since_s,
                draw(st.floats(since_s, NOW_S)),
                standing,
                draw(st.sampled_from(["a", "b"])) if standing is Standing.PROVEN else "",
                draw(st.integers(0, 2)),
                draw(st.booleans()),
            )
        )
    return connections


rules_ = st.builds(Rules, st.floats(1, 100), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


def is_served(one):
    """Whether it has calls open that it has earned."""
    return one.standing is not Standing.STRANGER and one.calls > 0


@given(tables(), rules_)
def test_every_bound_holds_afterwards(connections, rules):
    """The idle are gone, no address and no identity has more than its share, and all others fit in."""
    closing = to_close(connections, rules, NOW_S)
    left = [one for one in connections if one.peer not in closing]
    for one in left:
        assert one.calls or one.standing is not Standing.STRANGER or one.used_s > NOW_S - rules.idle_s
    unproven = Counter(network_of(one.peer[0]) for one in left if one.standing is not Standing.PROVEN)
    assert all(count <= rules.per_address for count in unproven.values())
    assert all(
        count <= rules.per_identity for count in Counter(one.name for one in left if one.name).values()
    )
    assert len(left) <= rules.total or all(is_served(one) for one in left)


@given(tables(), rules_)
def test_nobody_goes_without_a_reason(connections, rules):
    """Looking again at those who stayed closes nobody, and with wide bounds only idle strangers go."""
    closing = to_close(connections, rules, NOW_S)
    left = [one for one in connections if one.peer not in closing]
    assert to_close(left, rules, NOW_S) == {}
    wide = replace(rules, total=100, per_address=100, per_identity=100)
    assert set(to_close(connections, wide, NOW_S).values()) <= {Cause.IDLE, Cause.IN_VAIN}


@given(tables(), rules_)
def test_who_has_shown_less_goes_first(connections, rules):
    """For want of room nobody with an identity goes while a stranger stays, and nobody with calls."""
    closing = to_close(connections, rules, NOW_S)
    crowded = [one for one in connections if closing.get(one.peer) is Cause.CROWDED]
    left = [one for one in connections if one.peer not in closing]
    assert not any(is_served(one) for one in crowded)
    if any(one.standing is not Standing.STRANGER for one in crowded):
        assert not any(one.standing is Standing.STRANGER for one in left)
    gone_idle = [one.used_s for one in crowded if one.standing is Standing.STRANGER and not one.calls]
    stay_idle = [one.used_s for one in left if one.standing is Standing.STRANGER and not one.calls]
    assert max(gone_idle, default=0.0) <= min(stay_idle, default=NOW_S)


@given(tables(), rules_)
def test_strangers_whose_calls_are_in_vain_go_and_nobody_else_for_that(connections, rules):
    """They go even with calls open; who has proven or been answered something stays as far as that goes."""
    closing = to_close(connections, rules, NOW_S)
    gone = {peer for peer, cause in closing.items() if cause is Cause.IN_VAIN}
    strangers = [one for one in connections if one.standing is Standing.STRANGER]
    assert gone == {one.peer for one in strangers if one.in_vain}


def test_calls_in_vain_are_too_many_beyond_a_burst_and_a_rate():
    """A burst at once, and then as many in a second as are forgotten; one more is too many."""
    calls = VainCalls()
    assert not any(calls.too_many(NOW_S) for _ in range(VAIN_BURST))
    assert calls.too_many(NOW_S)
    patient = VainCalls()
    assert not any(patient.too_many(NOW_S + number / VAIN_PER_S) for number in range(10 * VAIN_BURST))
    assert not any(calls.too_many(NOW_S + 10) for _ in range(VAIN_BURST))


def test_an_identity_that_holds_too_many_loses_its_oldest_idle_one():
    """Its own bound is not others' fault: one with calls stays as long as an idle one can go."""
    rules = Rules(30.0, 100, 100, 2)
    busy = Connection(("192.0.2.1", 1), 1.0, 1.0, Standing.PROVEN, "a", 1)
    idle = [Connection(("192.0.2.1", port), 2.0, 900.0 + port, Standing.PROVEN, "a") for port in (2, 3)]
    assert to_close([busy, *idle], rules, NOW_S) == {("192.0.2.1", 2): Cause.IDENTITY}


def test_half_of_all_is_an_addresss_share_unless_said():
    """The default leaves room for other addresses however many come from one."""
    assert Rules.of(LimitsConfig(), 1024).per_address == 512
    assert Rules.of(LimitsConfig(max_connections_per_address=7), 1024).per_address == 7
    assert Rules.of(LimitsConfig(), 1).per_address == 1
