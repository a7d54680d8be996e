"""The conformance suites bite: each defect that is planted in the memory engine is caught by a named test."""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from queuekit.backend import Backend
from queuekit.broker import Broker, Capabilities, Delivery, Place
from queuekit.engines.memory import MemoryBackend, MemoryBroker
from queuekit.engines.sqlite import SqliteBackend, SqliteBroker
from queuekit.plugins.loading import GROUP
from queuekit.plugins.manager import Plugins
from queuekit.serializer import JsonSerializer
from queuekit.testing import BackendConformance, BrokerConformance, RestartConformance, SerializerConformance
from queuekit.urls import EngineURL
from queuekit_testing import engines, kit, summary
from queuekit_testing.brokers.cuts import STAYS
from queuekit_testing.brokers.leases import SETTLEMENTS
from queuekit_testing.brokers.payloads import BODIES
from queuekit_testing.connections import DAY, SteadyClock
from support import (
    again_defects,
    backend_defects,
    broker_defects,
    client_defects,
    clock_defects,
    endurance_defects,
    lane_defects,
    lease_defects,
    limit_defects,
    many_defects,
    option_defects,
    push_defects,
    renewal_defects,
    restart_defects,
    settling_defects,
)
from support.plugin_site import NullPlugin
from support.waiting import PATIENCE

pytest_plugins = ["pytester"]

LEVELS = Path(__file__).parents[2] / "golden" / "kit_levels.lst"
"""Every test of the suites with its level; QUEUEKIT_TEST_GOLDEN=write writes it anew."""
DEFECTS = LEVELS.with_name("kit_defects.lst")
"""Every planted defect, by area and by the test that catches it; written anew in the same way."""
_numbers = itertools.count()
_passed = set[tuple[type, str, str]]()
"""What has passed in this process."""
_OF_A_DEFECT = 0.5
"""Seconds that a suite waits for what a defect keeps from happening; what is right gets all the time it needs."""


class Brokers(BrokerConformance):
    """The suite, run against any broker class."""

    SHORT = 0.05
    EXAMPLES = 30

    def __init__(self, kind: type[MemoryBroker], *, patience: float) -> None:
        self.kind = kind
        self.PATIENCE = patience
        self.url = EngineURL.parse(f"memory://kit-{next(_numbers)}")
        self.engine = MemoryBroker(self.url)

    def make_broker(self) -> Broker:
        """Return one more client."""
        return self.kind(self.url)

    def make_backend(self) -> Backend:
        """Return a backend of the same engine."""
        return MemoryBackend(self.url)


class Backends(BackendConformance):
    """The suite, run against any backend class."""

    SHORT = 0.05

    def __init__(self, kind: type[MemoryBackend], *, patience: float) -> None:
        self.kind = kind
        self.PATIENCE = patience
        self.url = EngineURL.parse(f"memory://kit-{next(_numbers)}")
        self.engine = MemoryBackend(self.url)

    def make_backend(self) -> Backend:
        """Return one more client."""
        return self.kind(self.url)


class Restarts(RestartConformance):
    """The suite for restarts, run against what a restart loses."""

    SHORT = 0.05

    def __init__(self, lose: Callable[[MemoryBroker], None]) -> None:
        self.lose = lose
        self.PATIENCE = _OF_A_DEFECT if lose is not restart_defects.nothing else PATIENCE
        self.url = EngineURL.parse(f"memory://kit-{next(_numbers)}")
        self.engine = MemoryBroker(self.url)

    def make_broker(self) -> Broker:
        """Return one more client."""
        return MemoryBroker(self.url)

    def restart(self) -> None:
        """Lose what is lost."""
        self.lose(self.engine)


@attrs.frozen
class Planted:
    """A defect, the test that must catch it, and the row of that test where it has several."""

    defect: Any
    test: str
    row: dict[str, Any] = attrs.field(factory=dict)
    right: Any = None
    """What is right beside it, where that is not the memory engine."""
    tries: int = 1
    """How often to look: on a busy machine a busy loop gets little CPU, and may pass for once."""


CLOCK: dict[str, Any] = {"server_clock": None}
TAKEN_OUT = "adds_nothing_after_it_was_taken_out"
BROKERS = [
    Planted(settling_defects.NoFence, "refuses_a_stale_settlement", {"settle": SETTLEMENTS["ack"]}),
    Planted(settling_defects.SilentFence, "refuses_a_stale_settlement", {"settle": SETTLEMENTS["retry"]}),
    Planted(settling_defects.StopsAtStale, "settles_each_by_itself"),
    Planted(broker_defects.LastInFirstOut, "hands_out_in_the_order_of_a_batch"),
    Planted(broker_defects.NoPriority, "hands_out_urgent_ones_first"),
    Planted(broker_defects.NoDelay, "does_not_hand_out_early"),
    Planted(broker_defects.LateDelay, "does_not_hand_out_early"),
    Planted(broker_defects.NoNotBefore, "heeds_not_before"),
    Planted(broker_defects.EndlessLease, "gives_back_when_the_lease_ends"),
    Planted(broker_defects.InstantLease, "hides_what_is_leased"),
    Planted(broker_defects.LostExtend, "ends_an_extended_lease_as_well"),
    Planted(broker_defects.LostExtend, "extends_a_lease"),
    Planted(broker_defects.SilentExtend, "reports_the_leases_that_extend_has_lost"),
    Planted(broker_defects.NoCrashes, "counts_every_crash"),
    Planted(broker_defects.NoNumber, "raises_the_number_with_each_claim"),
    Planted(broker_defects.SplitClaim, "lets_one_win"),
    Planted(broker_defects.CutAtNul, "returns_the_bytes_sent", {"body": BODIES["nul-inside"]}),
    Planted(broker_defects.BodiesAsText, "returns_the_bytes_sent", {"body": BODIES["invalid-utf-8"]}),
    Planted(broker_defects.NoSizeLimit, "refuses_a_body_above_the_limit"),
    Planted(broker_defects.DroppedFields, "returns_every_field"),
    Planted(broker_defects.SharedQueues, "keeps_queues_apart"),
    Planted(broker_defects.TakesTooMany, "takes_no_more_than_asked"),
    Planted(broker_defects.LostWakeUp, "is_woken_by_a_send"),
    Planted(broker_defects.SleepsThroughEvents, "is_woken_by_the_end_of_a_lease"),
    Planted(broker_defects.SleepsThroughEvents, "is_woken_by_a_due_time"),
    Planted(settling_defects.CountsReleases, "releases_uncounted"),
    Planted(settling_defects.ReleasesToTheEnd, "puts_a_released_message_back_in_its_place"),
    Planted(settling_defects.RetriesTwice, "replaces_a_message_by_its_retry"),
    Planted(settling_defects.EarlyRetry, "does_not_hand_a_retry_out_early"),
    Planted(settling_defects.ForgetsIds, "adds_nothing_after_it_is_done"),
    Planted(settling_defects.OneSendPerId, "accepts_the_next_attempt_of_a_known_id"),
    Planted(settling_defects.NoUniqueKeys, "returns_the_holder_of_a_unique_key"),
    Planted(settling_defects.RetryFreesKey, "keeps_a_key_until_done"),
    Planted(settling_defects.DeadWithoutReason, "buries_a_message_intact"),
    Planted(settling_defects.DeadAreDropped, "buries_a_message_intact"),
    Planted(settling_defects.ReplaysTheOldGeneration, "replays_chosen_dead_letters"),
    Planted(settling_defects.PurgesAll, "purges_one_place", {"place": Place.READY}),
    Planted(settling_defects.RemovesLeased, "does_not_remove_what_is_leased", {"place": None}),
    Planted(settling_defects.PageOverlap, "shows_page_by_page"),
    Planted(settling_defects.CountsForgetDelayed, "counts_each_place"),
    Planted(settling_defects.DeafToInterrupt, "ends_a_wait_when_interrupted"),
    Planted(settling_defects.ClosesOnce, "closes_twice"),
    Planted(settling_defects.CommitsWithoutFence, "commits_nothing_of_a_stale_item"),
    Planted(settling_defects.CommitsHalf, "commits_a_whole_outcome"),
    Planted(settling_defects.CompletesTwice, "sends_once_what_completes_a_group"),
    Planted(client_defects.FoldsCase, "keeps_names_apart_that_are_much_alike"),
    Planted(client_defects.Truncates, "returns_a_body_of_the_largest_size"),
    Planted(client_defects.Spins, "sleeps_while_it_waits", tries=9),
    Planted(client_defects.DoesNotWait, "sleeps_while_it_waits"),
    Planted(client_defects.SpinsWhileDelayed, "sleeps_while_something_is_delayed", tries=9),
    Planted(client_defects.LeaksThreads, "leaves_nothing_behind"),
    Planted(client_defects.LosesConnections, "leaves_nothing_behind", right=client_defects.Reconnects),
    Planted(client_defects.NeverReconnects, "works_on_after_its_connections_are_cut", right=client_defects.Reconnects),
    Planted(MemoryBroker, "takes_nothing_early_by_a_wrong_clock", CLOCK, right=client_defects.ServersClock),
    Planted(MemoryBroker, "shares_no_tokens_with_a_fork", right=client_defects.TokensOfItsOwn),
    *(
        Planted(defect, "tells_the_time_of_its_service", {**CLOCK, "off": off}, right=clock_defects.GivenClock)
        for defect, off in (
            (MemoryBroker, DAY),
            (clock_defects.ClaimsByTheClient, -DAY),
            (clock_defects.SentByTheClient, DAY),
        )
    ),
    *(
        Planted(
            defect, "heeds_a_moment_by_the_time_of_its_service", {**CLOCK, "off": off}, right=clock_defects.GivenClock
        )
        for defect, off in ((clock_defects.DelaysByTheClient, DAY), (clock_defects.LateByTheClient, -DAY))
    ),
    Planted(client_defects.ForgetsTheMoment, "is_relayed_beyond_its_longest_delay", right=client_defects.Narrow),
    Planted(many_defects.LimitPerQueue, "takes_no_more_than_asked_from_all_queues_together"),
    Planted(many_defects.UpkeepTakes, "takes_nothing_where_nothing_is_asked"),
    Planted(many_defects.LeasesTheFirst, "ends_every_lease_of_a_batch"),
    Planted(many_defects.ExtendsTheFirst, "extends_every_lease_of_a_batch"),
    Planted(many_defects.StopsExtending, "extends_every_lease_of_a_batch"),
    Planted(many_defects.SettlesBothOfABatch, "settles_once_what_a_batch_names_twice", {"way": "ack-first"}),
    Planted(many_defects.SmallBatches, "takes_its_largest_batch"),
    Planted(many_defects.PagesByDue, "shows_any_place_page_by_page", {"place": Place.DELAYED}),
    Planted(many_defects.PagesByLevel, "shows_any_place_page_by_page", {"place": Place.READY}),
    Planted(many_defects.WakesOne, "wakes_those_whose_queue_it_is", tries=9),
    Planted(many_defects.WakesOne, "wakes_as_many_as_there_is_work_for", tries=9),
    Planted(many_defects.RetriesQuietly, "is_woken_by_a_retry", tries=9),
    Planted(many_defects.OneAtATime, "works_while_one_of_its_threads_waits", tries=9),
    Planted(many_defects.CommitsByTheStart, "lets_the_later_item_see_the_earlier"),
    Planted(many_defects.CommitsById, "tells_the_stale_item_from_the_one_that_holds"),
    Planted(many_defects.CommitsBareRecords, "commits_records_whole"),
    Planted(many_defects.CommitsAtOnce, "commits_what_is_due_later"),
    Planted(many_defects.CommitsQuietly, "wakes_by_what_it_commits", {"way": "send"}, tries=9),
    Planted(limit_defects.CountsSends, "counts_what_waits"),
    Planted(limit_defects.CountsTogether, "counts_what_waits"),
    Planted(limit_defects.CountsTheFirst, "counts_what_waits"),
    Planted(limit_defects.LeavesUnknownQueuesOut, "counts_an_unknown_queue_as_empty"),
    *(
        Planted(defect, "takes_its_longest_delay", {"way": way}, right=limit_defects.Limited)
        for defect, way in (
            (limit_defects.RefusesItsLongest, "send"),
            (limit_defects.WrapsItsLongest, "send"),
            (limit_defects.ReleasesAtOnce, "release"),
            (limit_defects.RetriesAtOnce, "retry"),
        )
    ),
    Planted(lease_defects.ExtendsItsOwn, "serves_another_client_that_shows_a_lease", {"name": "extend"}),
    Planted(lease_defects.SettlesItsOwn, "serves_another_client_that_shows_a_lease", {"name": "ack"}),
    Planted(lease_defects.BuriesByHeart, "serves_another_client_that_shows_a_lease", {"name": "dead"}),
    Planted(lease_defects.NeedsTheMessage, "serves_another_client_that_shows_a_lease", {"name": "release"}),
    Planted(renewal_defects.ReturnsTheOldToken, "returns_a_lease_for_each", right=renewal_defects.Renewing),
    Planted(renewal_defects.RenewsOutOfOrder, "returns_a_lease_for_each", right=renewal_defects.Renewing),
    Planted(renewal_defects.RenewsAndLeavesOut, "returns_none_for_a_lost_lease", right=renewal_defects.Renewing),
    Planted(renewal_defects.RenewsInNameOnly, "renews_again_and_again", right=renewal_defects.Renewing),
    Planted(renewal_defects.RenewsForHours, "ends_a_renewed_lease_as_well", right=renewal_defects.Renewing),
    Planted(renewal_defects.HonoursTheOldToken, "refuses_the_token_of_before", right=renewal_defects.Renewing),
    Planted(push_defects.PushesAll, "holds_no_more_than_its_prefetch", right=push_defects.Pushing),
    Planted(push_defects.ReturnsAllPushed, "returns_no_more_than_asked", right=push_defects.Pushing),
    Planted(push_defects.KeepsWhatWasPushed, "gives_back_what_was_not_returned", right=push_defects.Pushing),
    Planted(push_defects.CountsWhatWasPushed, "gives_back_what_was_not_returned", right=push_defects.Pushing),
    Planted(push_defects.TakesBackWhatWasReturned, "gives_back_what_was_not_returned", right=push_defects.Pushing),
    Planted(push_defects.PushesDeafly, "ends_a_wait_for_what_is_pushed", right=push_defects.Pushing),
    Planted(push_defects.PushesNoMore, "goes_on_when_what_it_holds_is_settled", right=push_defects.Pushing),
    Planted(push_defects.PushesAnything, "keeps_queues_of_others_apart", right=push_defects.Pushing),
    Planted(push_defects.PushesTheFirstQueue, "keeps_queues_of_others_apart", right=push_defects.Pushing),
    Planted(option_defects.RoutedByAll, "has_a_default_for_each_option", right=option_defects.Routed),
    *(
        Planted(defect, "keeps_options_over_a_retry_and_a_hop", {"change": change}, right=option_defects.Routed)
        for defect, change in (
            (option_defects.RetryLosesOptions, {"attempt": 1}),
            (option_defects.StepLosesOptions, {"hop": 1}),
        )
    ),
    *(
        Planted(defect, "keeps_options_when_it_goes_back", {"way": way}, right=option_defects.Routed)
        for defect, way in (
            (option_defects.ReleaseLosesOptions, "released"),
            (option_defects.ExpiryLosesOptions, "expired"),
        )
    ),
    Planted(option_defects.DelayLosesOptions, "keeps_options_over_a_delay", right=option_defects.Routed),
    Planted(
        option_defects.FollowUpLosesOptions,
        "keeps_options_of_a_follow_up",
        {"way": "sent"},
        right=option_defects.Routed,
    ),
    Planted(
        option_defects.CallbackLosesOptions,
        "keeps_options_of_a_follow_up",
        {"way": "joined"},
        right=option_defects.Routed,
    ),
    Planted(option_defects.ReplayLosesOptions, "keeps_options_over_a_replay", right=option_defects.Routed),
    Planted(settling_defects.RetriesTwice, "pushes_again_what_goes_back"),
    Planted(
        client_defects.DeletesFirst,
        "loses_nothing_that_goes_back",
        {"settle": STAYS["retry"]},
        right=client_defects.InTwoSteps,
    ),
    Planted(endurance_defects.CountsToThree, "counts_crashes_beyond_a_few"),
    Planted(endurance_defects.NumbersToFifteen, "counts_hundreds_of_claims"),
    Planted(endurance_defects.NumbersInAByte, "counts_hundreds_of_claims"),
    Planted(
        endurance_defects.RoundsDown,
        "rounds_no_delay_down",
        {"way": "send"},
        right=endurance_defects.Coarse,
        tries=9,
    ),
    Planted(
        endurance_defects.RoundsReleasesDown,
        "rounds_no_delay_down",
        {"way": "release"},
        right=endurance_defects.Coarse,
        tries=9,
    ),
    Planted(
        endurance_defects.NoHeadroom, "takes_its_largest_body_with_the_longest_names", right=endurance_defects.Roomy
    ),
    Planted(endurance_defects.OpensAnyLease, "refuses_the_token_of_another_message"),
    Planted(endurance_defects.ComparesTheShape, "refuses_a_token_of_the_right_shape"),
    Planted(endurance_defects.TrustsItself, "refuses_a_stale_lease_of_its_own", {"deed": "extend"}),
    Planted(endurance_defects.OpensAnyLease, "refuses_a_stale_lease_of_its_own", {"deed": "settle"}),
    Planted(endurance_defects.InterruptedForGood, "is_interrupted_once"),
    Planted(again_defects.FirstClaimForEver, "tells_when_it_was_sent_and_claimed"),
    Planted(again_defects.SentAnew, "tells_when_it_was_sent_and_claimed"),
    Planted(again_defects.ForgetsFieldsOnReturn, "returns_every_field_again", {"way": "released"}),
    Planted(again_defects.DelayForgetsCrashes, "counts_on_over_a_delayed_release"),
    Planted(again_defects.Milliseconds, "tells_the_time_of_day"),
    Planted(again_defects.SinceStart, "tells_the_time_of_day"),
    Planted(again_defects.ReclaimsToTheEnd, "puts_what_its_holder_left_back_in_its_place"),
    Planted(again_defects.PromotesToTheEnd, "gives_a_delayed_message_its_turn"),
    Planted(again_defects.PromotesToTheFront, "gives_a_delayed_message_its_turn"),
    Planted(again_defects.RetryForgetsTheMoment, "heeds_not_before_of_a_retry"),
    Planted(again_defects.RemembersTheLastStep, "adds_nothing_of_an_earlier_attempt_after_the_last"),
    Planted(again_defects.ForgetsWhatWasRemoved, TAKEN_OUT, {"way": "removed", "place": Place.DELAYED}),
    Planted(again_defects.ForgetsWhatWasPurged, TAKEN_OUT, {"way": "purged", "place": Place.READY}),
    Planted(again_defects.RaisesTheDead, "adds_nothing_while_it_is_dead"),
    Planted(again_defects.FreesAnyKey, "frees_no_key_that_is_another_s_by_now", {"way": "ack"}),
    Planted(again_defects.ReplaysAnything, "replays_nothing_else"),
    Planted(again_defects.ReplaysWithoutExpiry, "replays_chosen_dead_letters"),
    Planted(again_defects.LeasesWithoutEnd, "tells_when_a_lease_ends"),
    Planted(again_defects.RemovesWhereTold, "does_not_remove_what_is_leased", {"place": Place.LEASED}),
    Planted(lane_defects.NoLanes, "does_not_let_a_lane_wait_behind_another"),
    Planted(lane_defects.NoLanes, "gives_each_lane_its_turn"),
    Planted(lane_defects.Unweighted, "gives_shares_by_weight"),
    Planted(lane_defects.WholeWeights, "takes_a_weight_below_one"),
    Planted(lane_defects.LastInLaneFirst, "keeps_the_order_within_a_lane"),
    Planted(lane_defects.LanesByName, "keeps_the_order_of_many_lanes"),
    Planted(lane_defects.PunishesTheEarly, "does_not_punish_a_lane_for_the_past"),
    Planted(lane_defects.ForgetsShares, "keeps_shares_of_lanes_with_one_message_at_a_time"),
    Planted(lane_defects.LanesBeforePriority, "lets_priority_beat_lanes"),
    Planted(lane_defects.LaneNotTold, "knows_the_lane", {"way": "sent"}),
    Planted(lane_defects.RetryLosesLane, "knows_the_lane", {"way": "retried"}),
    Planted(lane_defects.ReturnLosesWeight, "knows_the_lane", {"way": "put back"}),
    Planted(lane_defects.RetryLosesGroup, "keeps_the_lane", {"way": "retried"}, right=lane_defects.Approximate),
    Planted(lane_defects.ShowsByDue, "shows_the_lane"),
    Planted(lane_defects.DueFirst, "gives_what_was_delayed_its_turn"),
    Planted(lane_defects.RetriesFirst, "gives_retries_their_turn"),
    Planted(lane_defects.ReplaysFirst, "gives_replays_their_turn"),
    Planted(lane_defects.ReturnsLast, "puts_a_message_back_in_its_place"),
    Planted(lane_defects.CommonLaneFirst, "takes_the_common_lane_for_one_of_them"),
    Planted(lane_defects.LanesOfAllQueues, "keeps_lanes_of_queues_apart"),
    Planted(lane_defects.CommitsLast, "gives_what_a_commit_sends_its_turn"),
    *(
        Planted(defect, "behaves_like_its_model")
        for defect in (
            settling_defects.NoFence,
            settling_defects.SilentFence,
            settling_defects.RetriesTwice,
            settling_defects.ReleasesToTheEnd,
            settling_defects.PurgesAll,
            settling_defects.CountsForgetDelayed,
            broker_defects.NoPriority,
            broker_defects.LastInFirstOut,
        )
    ),
]
BACKENDS = [
    Planted(backend_defects.RankIgnored, "writes_if_newer", {"rank": 4, "written": False}),
    Planted(backend_defects.RanksAsFloats32, "compares_large_ranks_exactly"),
    Planted(backend_defects.ExpectIgnored, "writes_what_is_expected"),
    Planted(backend_defects.SameForAll, "compares_each_record_with_its_own_version"),
    Planted(backend_defects.SameIsAlways, "compares_each_record_with_its_own_version"),
    Planted(backend_defects.SameOrNothing, "compares_each_record_with_its_own_version"),
    Planted(backend_defects.SameByTheStart, "writes_once_what_a_batch_names_twice"),
    Planted(backend_defects.SameSplit, "lets_one_of_many_write_over_the_same"),
    Planted(backend_defects.SameAsTheDead, "takes_an_expired_record_as_none"),
    Planted(backend_defects.SplitPut, "lets_one_of_many_win", {"way": "absent"}),
    Planted(backend_defects.NoEnd, "forgets_when_its_time_has_passed"),
    Planted(backend_defects.ForgetsErrors, "returns_unset_fields_as_none"),
    Planted(backend_defects.WaitsForAnything, "ends_a_wait_when_the_record_is_put"),
    Planted(backend_defects.SleepsThroughPut, "wakes_all_who_wait"),
    Planted(backend_defects.Wildcards, "takes_a_prefix_literally", {"odd": "*"}),
    Planted(backend_defects.OffsetScan, "scans_past_what_is_deleted_meanwhile"),
    Planted(backend_defects.CountsTwice, "counts_each_member_once"),
    Planted(backend_defects.SplitJoin, "counts_members_that_come_at_once"),
    Planted(backend_defects.BatchOfOne, "joins_a_batch"),
    Planted(backend_defects.CountsBeforeTheBatch, "joins_a_large_group_in_batches"),
    Planted(client_defects.SpinningBackend, "sleeps_while_it_waits", tries=9),
    Planted(client_defects.LeakingBackend, "leaves_nothing_behind"),
    Planted(client_defects.Bottomless, "refuses_a_body_above_the_limit"),
    Planted(MemoryBackend, "heeds_no_clock_of_a_client", right=client_defects.ServersClockBackend),
    Planted(backend_defects.VersionInTheRecord, "raises_the_version_over_an_end"),
    Planted(backend_defects.LifeAsWritten, "tells_what_is_left_of_a_life"),
    Planted(backend_defects.RefusalProlongs, "does_not_prolong_what_it_refuses", {"way": "absent"}),
    Planted(backend_defects.MonthsAreMoments, "keeps_what_ends_in_years"),
    Planted(backend_defects.ClockSinceStart, "tells_the_time_of_day"),
    Planted(backend_defects.Folding, "keeps_keys_apart_that_are_much_alike"),
    Planted(backend_defects.Padding, "keeps_keys_apart_that_are_much_alike"),
    Planted(backend_defects.Composing, "keeps_keys_apart_that_are_much_alike"),
    Planted(backend_defects.CutNames, "takes_a_long_key"),
    Planted(backend_defects.ShortNames, "takes_a_long_key_of_wide_characters"),
    Planted(backend_defects.GroupsAreRecords, "keeps_a_group_and_a_record_of_one_name_apart"),
    Planted(backend_defects.GroupsAreRecords, "lists_no_groups"),
    Planted(backend_defects.AHundredAtMost, "gets_many_at_once"),
    Planted(backend_defects.OneAtATime, "works_while_one_of_its_threads_waits", tries=9),
]

MEMORY: dict[Any, str] = dict.fromkeys(
    (MemoryBroker, MemoryBackend), "Is right in one process, but wrong as a service."
)
"""The engine itself, where a test asks for what only a service has."""
VARIANTS = {
    "Bottomless": "NoSizeLimit",
    "ClockSinceStart": "SinceStart",
    "ExpiryLosesOptions": "ReleaseLosesOptions",
    "Folding": "FoldsCase",
    "ForgetsWhatWasRemoved": "ForgetsWhatWasPurged",
    "LateByTheClient": "DelaysByTheClient",
    "LeakingBackend": "LeaksThreads",
    "NumbersInAByte": "NumbersToFifteen",
    "PagesByLevel": "PagesByDue",
    "PushesTheFirstQueue": "PushesAnything",
    "RetriesAtOnce": "ReleasesAtOnce",
    "RoundsReleasesDown": "RoundsDown",
    "SameSplit": "SplitPut",
    "SentByTheClient": "ClaimsByTheClient",
    "ShortNames": "CutNames",
    "SpinningBackend": "Spins",
    "SpinsWhileDelayed": "Spins",
    "SplitJoin": "SplitPut",
    "StepLosesOptions": "RetryLosesOptions",
    "ids": "live_ids",
}
"""Defects that are the same mistake as another one in another place: kept, but not counted."""
LOSSES = [
    (restart_defects.all_messages, "keeps_what_was_sent_over_a_restart"),
    (restart_defects.settlements, "forgets_what_was_settled_before_a_restart"),
    (restart_defects.tokens, "keeps_leases_over_a_restart"),
    (restart_defects.leased, "delivers_again_what_was_leased_before_a_restart"),
    (restart_defects.live_ids, "adds_nothing_for_a_send_repeated_over_a_restart"),
    (restart_defects.ids, "remembers_what_was_done_over_a_restart"),
    (restart_defects.delays, "keeps_what_is_delayed_over_a_restart"),
    (restart_defects.reasons, "keeps_dead_letters_over_a_restart"),
]
"""What a restart loses, and the test that must catch it."""


class OneByOne(MemoryBackend):
    """Has no batched join of its own, as backends of others may."""

    join_many = Backend.join_many


BATCHES = ["joins_a_batch", "joins_a_large_group_in_batches", "counts_batches_that_come_at_once"]


def name_of(planted: Planted) -> str:
    """Return the id of a row: the defect, and the test that catches it."""
    return f"{planted.defect.__name__}-{planted.test}"


def run_for_broker(kind: type[MemoryBroker], planted: Planted, *, patience: float = PATIENCE) -> None:
    """Run one test of the suite against a broker class, as pytest would."""
    suite = Brokers(kind, patience=patience)
    with suite.session() as broker:
        wanted: dict[str, Callable[[], Any]] = {
            "broker": lambda: broker,
            "queue": suite.new_queue,
            "declared": lambda: broker.capabilities,
            "store": suite.make_backend,
        }
        _run(suite, planted, wanted)


def run_for_backend(kind: type[MemoryBackend], planted: Planted, *, patience: float = PATIENCE) -> None:
    """Run one test of the suite against a backend class, as pytest would."""
    suite = Backends(kind, patience=patience)
    with suite.session() as backend:
        _run(suite, planted, {"backend": lambda: backend, "declared": lambda: backend.capabilities})


def _run(suite: object, planted: Planted, wanted: dict[str, Callable[[], Any]]) -> None:
    """Call the test with the fixtures that it names."""
    test = getattr(suite, f"test_{planted.test}")
    code = test.__func__.__code__
    names = code.co_varnames[1 : code.co_argcount]
    test(**{name: wanted[name]() for name in names if name in wanted}, **planted.row)


def pass_on(kind: type, run: Callable[..., None], planted: Planted) -> None:
    """Run the test against what is right; once in this process, however many defects it catches."""
    key = (kind, planted.test, str(planted.row))
    if key not in _passed:
        run(kind, planted)
        _passed.add(key)


def repeat(run: Callable[..., None], planted: Planted) -> None:
    """Run the test against the defect as often as it may take to show; a failure is what is waited for, so not long."""
    for _ in range(planted.tries):
        run(planted.defect, planted, patience=_OF_A_DEFECT)


@pytest.mark.no_cover  # what it runs through others do as well, and it takes three times as long measured
@pytest.mark.parametrize("planted", BROKERS, ids=name_of)
def test_catches_a_broken_broker(planted: Planted) -> None:
    """The named test passes for the memory broker, and fails once the defect is in it."""
    pass_on(planted.right or MemoryBroker, run_for_broker, planted)

    with pytest.raises((Exception, pytest.fail.Exception)):
        repeat(run_for_broker, planted)


@pytest.mark.parametrize(("lose", "test"), LOSSES, ids=lambda value: getattr(value, "__name__", value))
def test_catches_what_a_restart_loses(lose: Callable[[MemoryBroker], None], test: str) -> None:
    """The named test passes where nothing is lost, and fails where something is."""
    _restarted(restart_defects.nothing, test)

    with pytest.raises((Exception, pytest.fail.Exception)):
        _restarted(lose, test)


def _restarted(lose: Callable[[MemoryBroker], None], test: str) -> None:
    suite = Restarts(lose)
    with suite.session() as broker:
        getattr(suite, f"test_{test}")(broker, suite.new_queue())


@pytest.mark.parametrize("test", BATCHES)
def test_accepts_a_backend_with_a_single_join_only(test: str) -> None:
    """What a backend does not bring along for batches is done with what it has."""
    assert OneByOne.join_many is not MemoryBackend.join_many

    run_for_backend(OneByOne, Planted(None, test))


@pytest.mark.no_cover  # what it runs through others do as well, and it takes three times as long measured
@pytest.mark.parametrize("planted", BACKENDS, ids=name_of)
def test_catches_a_broken_backend(planted: Planted) -> None:
    """The named test passes for the memory backend, and fails once the defect is in it."""
    pass_on(planted.right or MemoryBackend, run_for_backend, planted)

    with pytest.raises((Exception, pytest.fail.Exception)):
        repeat(run_for_backend, planted)


def test_catches_a_backend_that_takes_its_fork_for_itself(tmp_path: Path) -> None:
    """One of several processes is needed for this, which the memory backend does not know."""
    planted = Planted(None, "is_not_taken_for_its_fork", {"way": "absent"})
    run_for_backend(at_file(SqliteBackend, tmp_path / "right"), planted)

    with pytest.raises(AssertionError):
        run_for_backend(at_file(client_defects.MarksByChance, tmp_path / "wrong"), planted, patience=_OF_A_DEFECT)


class BrokersAtFile(Brokers):
    """The suite, run against a class of brokers that processes share."""

    HOARD: ClassVar = 400

    def __init__(self, kind: type[Broker], path: Path) -> None:
        self.kind: Any = kind
        self.url = EngineURL.parse(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("defect", "test"),
    [
        (lease_defects.OfItsProcess, "serves_a_process_that_shows_a_lease"),
        (lease_defects.OfItsConnection, "serves_a_fork_that_shows_a_lease"),
        (endurance_defects.Hoards, "keeps_nothing_of_what_is_done"),
    ],
    ids=["process", "fork", "hoards"],
)
def test_catches_what_shows_in_a_process_of_its_own(tmp_path: Path, defect: type[Broker], test: str) -> None:
    """Several processes are needed for this, which the memory broker does not know."""
    for kind, name in ((SqliteBroker, "right"), (defect, "wrong")):
        suite = BrokersAtFile(kind, tmp_path / name)
        with suite.session() as broker:
            given = {"declared": broker.capabilities} if "lease" in test else {"queue": suite.new_queue()}
            call = partial(getattr(suite, f"test_{test}"), broker=broker, **given)
            if kind is SqliteBroker:
                call()
                continue
            with pytest.raises(AssertionError):
                call()


def at_file(kind: Callable[[EngineURL], Backend], path: Path) -> Any:
    """Return what makes a backend of *kind* at *path*, whatever URL it is given."""
    return lambda _: kind(EngineURL.parse(f"sqlite:///{path}"))


class Changes(JsonSerializer):
    """Changes what it cannot hold, as plain JSON does."""

    def dumps(self, value: Any) -> bytes:
        """Write tuples as lists."""
        return super().dumps(list(value) if isinstance(value, tuple) else value)


class Crashes(JsonSerializer):
    """Lets errors of its parser out."""

    def loads(self, data: bytes) -> Any:
        """Read without a net."""
        if not data:
            raise IndexError
        return super().loads(data)


@pytest.mark.parametrize(
    ("kind", "test", "row"),
    [
        pytest.param(Changes, "changes_nothing", {"name": "tuple"}, id="changes-types"),
        pytest.param(Crashes, "survives_hostile_bytes", {"name": "empty"}, id="raises-others"),
    ],
)
def test_catches_a_broken_serializer(kind: type[JsonSerializer], test: str, row: dict[str, Any]) -> None:
    """The named test passes for JSON, and fails once the defect is in it."""
    suite = SerializerConformance()
    call = getattr(suite, f"test_{test}")
    argument = "safe" if "safe" in call.__func__.__code__.co_varnames else "serializer"
    call(**{argument: JsonSerializer()}, **row)

    with pytest.raises((Exception, pytest.fail.Exception)):
        call(**{argument: kind()}, **row)


@pytest.mark.parametrize("tells_time", [True, False])
def test_gives_a_clock_that_is_right_to_whom_has_none(monkeypatch: pytest.MonkeyPatch, *, tells_time: bool) -> None:
    """A broker whose service does not tell the time is given one that no test sets wrong, as core would."""
    plugins = Plugins(environ={})
    plugins.register(NullPlugin(capabilities=Capabilities(tells_time=tells_time)), "null")
    monkeypatch.setattr(engines, "plugins_for", lambda _: plugins)

    made: Any = engines.new_broker("null://here")

    assert isinstance(made.made_with[2], SteadyClock) is not tells_time


# -- how it is used ------------------------------------------------------------------------------------------------

THIRD_PARTY = """
    import attrs, pytest
    from queuekit.engines.memory import MemoryBroker
    from queuekit.testing import BrokerConformance
    from queuekit.urls import EngineURL

    URL = EngineURL.parse("memory://third-party")

    class ThirdParty(MemoryBroker):
        capabilities = attrs.evolve(MemoryBroker.capabilities, priority=False, commit=False)
        {broker}

    class TestThirdParty(BrokerConformance):
        {body}

        def make_broker(self):
            return ThirdParty(URL)
"""


def make_project(pytester: pytest.Pytester, *, body: str = "SHORT = 0.1", broker: str = "") -> None:
    """Write the tests of a third party's broker, in under ten lines, and its conftest."""
    pytester.makeconftest('pytest_plugins = ["queuekit.testing"]')
    pytester.makepyfile(test_third_party=THIRD_PARTY.format(body=body, broker=broker))


def test_skips_by_capability(pytester: pytest.Pytester) -> None:
    """What a broker does not declare is skipped, with the name of the capability, and summed up in one line."""
    make_project(pytester)

    result = pytester.runpytest_inprocess("-rs", "-k", "urgent or whole_outcome or closes_twice")

    result.assert_outcomes(passed=1, skipped=1, xpassed=1)
    result.stdout.fnmatch_lines(
        [
            "queuekit-conformance: 1 passed, 2 not applicable (commit, priority), level 1",
            "*capability not declared: commit*",
        ]
    )


def test_expects_the_faults_of_an_emulator(pytester: pytest.Pytester) -> None:
    """A test named in EMULATOR may fail; the closing lines count such tests and name them with the reason."""
    faults = 'EMULATOR = {"test_lists_its_queues": "it knows none"}'
    make_project(pytester, body=faults, broker="queues = lambda self: []")

    result = pytester.runpytest_inprocess("-k", "lists_its_queues or closes_twice")

    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "queuekit-conformance: 1 passed, 1 not proved (emulator), level 1",
            "  not proved: TestThirdParty::test_lists_its_queues: it knows none",
        ]
    )


def test_refuses_an_expected_fault_that_is_none(pytester: pytest.Pytester) -> None:
    """A test named in EMULATOR that passes is a failure: the list does not outlive its reason."""
    make_project(pytester, body='EMULATOR = {"test_closes_twice": "it cannot"}')

    result = pytester.runpytest_inprocess("-k", "closes_twice")

    result.assert_outcomes(failed=1)


def test_leaves_out_what_fails_at_times(pytester: pytest.Pytester) -> None:
    """A test named in EMULATOR_AT_TIMES is not run, and counted among what is not proved."""
    make_project(pytester, body='EMULATOR_AT_TIMES = {"test_lets_one_win": "two win"}')

    result = pytester.runpytest_inprocess("-k", "lets_one_win or closes_twice")

    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "queuekit-conformance: 1 passed, 1 not proved (emulator), level 1",
            "  not proved: TestThirdParty::test_lets_one_win: two win",
        ]
    )


def test_proposes_what_could_be_declared(pytester: pytest.Pytester) -> None:
    """A capability that is not declared and whose tests pass all the same is reported, and nothing fails."""
    make_project(
        pytester, broker="capabilities = attrs.evolve(MemoryBroker.capabilities, remove=False, priority=False)"
    )

    result = pytester.runpytest_inprocess("-k", "removes_by_id or closes_twice")

    result.assert_outcomes(passed=1, xpassed=1)
    result.stdout.fnmatch_lines(
        [
            "queuekit-conformance: 1 passed, 1 not applicable (remove), level 1",
            "  not declared, but its tests pass: TestThirdParty: remove",
        ]
    )


def test_proposes_nothing_that_fails_or_is_not_promised(pytester: pytest.Pytester) -> None:
    """What does not pass is no proposal, nor what the author leaves undeclared for a reason of his own."""
    remove = "def remove(self, queue, ids, *, place=None): return []"
    lacking = "capabilities = attrs.evolve(MemoryBroker.capabilities, remove=False, dedup=False)"
    make_project(pytester, body='NOT_PROMISED = {"dedup": "by chance"}', broker=f"{lacking}\n        {remove}")

    result = pytester.runpytest_inprocess("-k", "removes_by_id or while_it_is_ready or closes_twice")

    result.assert_outcomes(passed=1, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(["queuekit-conformance: 1 passed, 2 not applicable (dedup, remove), level 1"])
    result.stdout.no_fnmatch_line("*not declared, but*")


def test_proposes_nothing_before_all_its_tests_have_passed(pytester: pytest.Pytester) -> None:
    """A quick test may pass by chance: the others of the capability run as well, and one that fails is enough."""
    lacking = "capabilities = attrs.evolve(MemoryBroker.capabilities, remove=False)"
    anything = "def remove(self, queue, ids, *, place=None): return super().remove(queue, ids) or list(ids)"
    make_project(pytester, broker=f"{lacking}\n        {anything}")

    result = pytester.runpytest_inprocess("-k", "removes_by_id or does_not_remove_what_is_leased or closes_twice")

    assert result.parseoutcomes()["xfailed"] >= 1
    result.stdout.no_fnmatch_line("*not declared, but*")


def test_runs_the_rest_of_what_it_might_propose(pytester: pytest.Pytester) -> None:
    """All tests of an undeclared capability run once its quick ones have passed, and are counted as not applicable."""
    make_project(
        pytester, broker="capabilities = attrs.evolve(MemoryBroker.capabilities, priority=False, commit=False)"
    )

    result = pytester.runpytest_inprocess("-k", "urgent or closes_twice or priority")

    assert result.parseoutcomes()["passed"] == 1
    assert result.parseoutcomes()["xpassed"] >= 1
    assert "skipped" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["  not declared, but its tests pass: TestThirdParty: priority"])


def test_leaves_slow_tests_out_when_asked(pytester: pytest.Pytester) -> None:
    """For the inner loop: no processes, no thousands of messages, no machine of states."""
    make_project(pytester)

    result = pytester.runpytest_inprocess("--queuekit-quick", "--collect-only", "-q")
    everything = pytester.runpytest_inprocess("--collect-only", "-q")

    left = {line.partition("::test_")[2] for line in result.outlines if "::test_" in line}
    whole = {line.partition("::test_")[2] for line in everything.outlines if "::test_" in line}
    assert {"survives_a_fork", "shares_messages_between_processes", "behaves_like_its_model"} <= whole - left
    assert "hides_what_is_leased" in left
    assert len(left) > len(whole) / 2


@pytest.mark.parametrize("name", ["memory", "redis", "mongodb"])
def test_only_the_plugin_under_test_takes_part(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other installed plugins are not even imported, whatever the environment says."""
    if name.removesuffix("db") not in {"memory", *(point.name for point in entry_points(group=GROUP))}:
        pytest.skip(f"the plugin {name} is not installed")
    monkeypatch.setenv("QUEUEKIT_DISABLE_PLUGINS", "*")
    engines.plugins_for.cache_clear()

    found = engines.plugins_for(name)

    engines.plugins_for.cache_clear()
    assert name in {scheme for info in found.infos() for scheme in info.schemes}
    assert len(found.infos()) == (1 if name == "memory" else 2)


NEW_TEST = """
        from queuekit_testing.kit import since

        @since(2)
        def test_is_new(self, broker):
            assert broker.limits
"""


@pytest.mark.parametrize(("level", "passed"), [(1, 1), (2, 2)])
def test_pins_the_set_of_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, level: int, passed: int
) -> None:
    """A test of a later level is run when KIT_LEVEL asks for it; until then the closing lines say that it is there."""
    monkeypatch.setattr(kit, "NEWEST_LEVEL", 2)
    monkeypatch.setattr(summary, "NEWEST_LEVEL", 2)
    monkeypatch.setattr(summary, "_MODULES", "")
    make_project(pytester, body=f"KIT_LEVEL = {level}\n{NEW_TEST}")

    result = pytester.runpytest_inprocess("-k", "is_new or closes_twice")

    result.assert_outcomes(passed=passed, skipped=2 - passed)
    result.stdout.fnmatch_lines([f"queuekit-conformance: {passed} passed, level {level}"])
    if level == 1:
        result.stdout.fnmatch_lines(["  KIT_LEVEL = 2 would add 1 tests"])


class Slow(MemoryBroker):
    """Answers late, and with nothing."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take half a second longer than asked."""
        threading.Event().wait(wait + 0.5)
        return []


class Empty(MemoryBroker):
    """Has nothing, and says so at once."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Wait for nothing."""
        return []


@pytest.mark.parametrize(("kind", "slow"), [(Slow, True), (Empty, False)], ids=["slow", "quick"])
def test_calls_a_slow_service_slow(kind: type[MemoryBroker], *, slow: bool) -> None:
    """Where something does not arrive in time, the failure says whether the service just needs longer."""
    text = kit.slow(0.6 if slow else 0.0, 1.0)
    suite = Brokers(kind, patience=0.3)
    with suite.session() as broker, pytest.raises(pytest.fail.Exception) as failure:
        suite.take_one(broker, suite.new_queue())

    assert bool(text) is slow
    assert not slow or "the service is slow: one call took" in str(failure.value)


def test_names_what_to_raise_where_each_step_takes_too_long() -> None:
    """Doubling a time limit again and again does not make a test flaky."""
    suite = Brokers(MemoryBroker, patience=1.0)

    with pytest.raises(pytest.fail.Exception, match=r"too slow, and nothing else is wrong here.*raise Brokers\.SHORT"):
        list(suite.spans(0.01, 0.001))


def test_refuses_a_level_that_is_not_there() -> None:
    """A KIT_LEVEL of a later queuekit is an error at once."""
    with pytest.raises(TypeError, match=r"KIT_LEVEL must be from 1 to \d+, got 99"):
        type("TestMine", (BrokerConformance,), {"KIT_LEVEL": 99})


def test_defects_are_listed_by_rule() -> None:
    """Each rule has the defects that are written down, in a line each; without variants there are 150 at least."""
    planted = [
        *((BrokerConformance, one.test, one.defect) for one in BROKERS),
        *((BackendConformance, one.test, one.defect) for one in BACKENDS),
        *((RestartConformance, test, lose) for lose, test in LOSSES),
    ]
    lines = {
        f"{getattr(suite, f'test_{test}').__module__.removeprefix('queuekit_testing.')}.{test} {defect.__name__}: "
        f"{MEMORY.get(defect) or str(defect.__doc__).partition(chr(10))[0]}"
        for suite, test, defect in planted
    }
    text = "\n".join(sorted(lines))
    names = {defect.__name__ for *_, defect in planted if defect not in MEMORY}

    if os.environ.get("QUEUEKIT_TEST_GOLDEN") == "write":
        DEFECTS.write_text(f"{text}\n", encoding="utf-8")

    assert f"{text}\n" == DEFECTS.read_text(encoding="utf-8")
    assert {*VARIANTS, *VARIANTS.values()} <= names
    assert not {*VARIANTS} & {*VARIANTS.values()}
    assert len(names - {*VARIANTS}) >= 150


def test_levels_do_not_change() -> None:
    """The tests of a level are those that are written down: after a release, a new one belongs to a new level."""
    suites = (BrokerConformance, BackendConformance, SerializerConformance)
    named = [(suite, name) for suite in suites for name in dir(suite) if name.startswith("test_")]
    found = [f"{getattr(getattr(suite, name), 'level', 1)} {suite.__name__} {name}" for suite, name in named]

    text = "\n".join(sorted(found)) + "\n"
    if os.environ.get("QUEUEKIT_TEST_GOLDEN") == "write":
        LEVELS.write_text(text, encoding="utf-8")

    assert text == LEVELS.read_text(encoding="utf-8")


def test_refuses_an_unknown_name_in_the_list() -> None:
    """A name in EMULATOR that is no test is an error at once, and tells the nearest one."""
    with pytest.raises(TypeError, match=r"unknown test 'test_close_twice'; did you mean 'test_closes_twice'"):
        type("TestMine", (BrokerConformance,), {"EMULATOR": {"test_close_twice": "why"}})


def test_refuses_a_capability_that_is_none() -> None:
    """A misspelt name in NOT_PROMISED is an error at once: it would hold nothing back."""
    with pytest.raises(TypeError, match="unknown capability 'dedupe'; did you mean 'dedup'"):
        type("TestMine", (BrokerConformance,), {"NOT_PROMISED": {"dedupe": "why"}})


@pytest.mark.parametrize("names", [("tuples",), "tuple"], ids=["misspelt", "no-comma"])
def test_refuses_to_keep_what_is_no_value(names: object) -> None:
    """A name in KEEPS that is no value is an error at once: nothing would be asked of the serializer."""
    with pytest.raises(TypeError, match=r"TestMine\.KEEPS: unknown value"):
        type("TestMine", (SerializerConformance,), {"KEEPS": names})


KEEPS_MORE = """
    from queuekit.serializer import JsonSerializer
    from queuekit.testing import SerializerConformance

    class TestMine(SerializerConformance):
        KEEPS = {keeps}

        def make_serializer(self, types):
            return JsonSerializer(types)
"""


def test_names_what_comes_back_unasked(pytester: pytest.Pytester) -> None:
    """Values that come back though KEEPS does not name them are told, for the author to promise them."""
    pytester.makeconftest('pytest_plugins = ["queuekit.testing"]')
    pytester.makepyfile(test_mine=KEEPS_MORE.format(keeps=("date", "uuid")))

    result = pytester.runpytest_inprocess("-k", "test_changes_nothing and (date or uuid or enum) and not time")

    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["  not in KEEPS, but comes back: TestMine: enum, enum-value"])


def test_names_nothing_where_all_is_kept(pytester: pytest.Pytester) -> None:
    """A suite that asks for all values has no more to promise."""
    pytester.makeconftest('pytest_plugins = ["queuekit.testing"]')
    pytester.makepyfile(test_mine=KEEPS_MORE.format(keeps=("*",)))

    result = pytester.runpytest_inprocess("-k", "test_changes_nothing and enum")

    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*not in KEEPS*")


@pytest.mark.parametrize("suite", [BrokerConformance(), BackendConformance()], ids=["broker", "backend"])
def test_says_what_to_write(suite: Any) -> None:
    """Without a factory a suite fails with the line that is missing."""
    with pytest.raises(NotImplementedError, match=r"def make_b\w+\(self\): return My"), suite.session():
        pass
