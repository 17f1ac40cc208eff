"""The laws once more on production's own build: raw pointers, no checks, and much more of it."""

from __future__ import annotations

from tests.laws.test_engine_laws import (  # noqa: F401
    test_a_refused_command_changes_nothing_but_its_producers_number,
    test_laws_hold_after_every_burst,
    test_replay_gives_the_same_bytes,
    test_the_twin_says_the_same,
    test_two_live_runs_agree_where_risk_could_not_refuse,
)
from tests.laws.test_fuzz_slots import (  # noqa: F401
    test_every_special_value_of_every_word,
    test_every_value_of_every_byte,
    test_in_bulk,
    test_losses_as_large_as_can_be,
    test_one_order_as_large_as_can_be,
)
from tests.laws.test_one_command import (  # noqa: F401
    test_a_crowd_of_reduce_only_orders_is_trimmed,
    test_one_command_cancels_a_hundred_thousand_orders,
    test_one_command_fills_a_hundred_thousand_orders,
    test_one_fill_robs_a_hundred_thousand_claims,
)
