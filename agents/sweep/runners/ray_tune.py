"""Searches by Ray Tune: it decides which trial goes on, stops or copies another; we do the rest.

Tune notes its state as pickles in a folder that goes with the session: nothing is ever restored
from there. A search that goes on gives Tune the results that are on record once more, and it
decides as it did.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from automix.agents.parallel.machine import keep_memory
from automix.agents.parallel.ray_tuning import in_order, quiet_tune, seeded
from automix.agents.sweep.planning.plan import SweepPlan
from automix.agents.sweep.planning.space import Choice, Interval
from automix.agents.sweep.runners.ray_grid import STOP_S, session
from automix.agents.sweep.runners.trial import TIME, Place, SearchTrial
from automix.agents.sweep.runners.winner import Finish, complete
from automix.agents.sweep.watch import SearchWatch
from automix.core.files import read_json, write_json
from automix.core.seeding import borrowed_global_rng, derived_seed

STORAGE = ".tune-"

POINTER = "slice.json"
"""What Tune is given for a checkpoint: where ours is."""

Config = Mapping[str, Any]
"""A trial as Tune has it: its name, and each searched key."""


@contextmanager
def on_tune(plan: SweepPlan) -> Iterator[tuple[Any, Finish]]:
    """Start or join Ray for as long as a search runs; return what runs it and makes a run of it.

    Raises:
        ResourceError: If a trial asks for more than there is.
    """
    with session(plan):
        # This process knows the way; on a cluster, it may have neither cores nor a GPU.
        yield tune_trials, partial(_in_a_task, plan) if plan.ray.address else complete


def _in_a_task(plan: SweepPlan, *args: Any) -> dict[str, Any]:
    """Make a run of the winner where trials run."""
    import ray

    one = plan.settings
    task: Any = ray.remote(complete).options(
        num_cpus=one.cpus_per_trial,
        num_gpus=one.gpus_per_trial,
        max_retries=one.max_retries,
        retry_exceptions=False,
    )
    ref = task.remote(*args)
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except BaseException:
        ray.cancel(ref)
        ray.wait([ref], timeout=STOP_S)
        raise


def tune_trials(plan: SweepPlan, place: Place, watch: SearchWatch) -> None:
    """Let Tune run all trials to their ends, on the Ray that is up.

    Args:
        plan: Of the search.
        place: What the trials need to know.
        watch: Hears everything that happens.
    """
    from ray import tune

    quiet_tune()
    seed = plan.trials[0].settings.seed
    points = [{"trial": one.hash, **_config(plan, one.values)} for one in plan.trials]
    one = plan.settings
    needs = {"cpu": one.cpus_per_trial, "gpu": one.gpus_per_trial}
    slices = -(-plan.updates // plan.interval)
    with (
        # All machines must see it: a trial may go on elsewhere.
        tempfile.TemporaryDirectory(
            dir=place.sweep, prefix=STORAGE, ignore_cleanup_errors=True
        ) as folder,
        # Tune shuffles its work with the global generators: lend it private ones.
        borrowed_global_rng(derived_seed(seed, "search")),
    ):
        tune.Tuner(
            tune.with_resources(_trainable(place), needs),
            param_space={key: tune.choice([point[key] for point in points]) for key in points[0]},
            tune_config=tune.TuneConfig(
                metric=one.metric,
                mode="max",
                num_samples=len(points),
                search_alg=in_order(points),
                scheduler=_SCHEDULERS[one.search](plan, seed),
                # A population counts those that wait as well, and would wait for itself.
                max_concurrent_trials=None if one.population else one.max_concurrent or None,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                callbacks=[_callback(watch)],
                # Failures are results. These are deaths, which a trial itself counts by slice.
                failure_config=tune.FailureConfig(max_failures=slices * (one.max_retries + 2)),
                verbose=0,
            ),
        ).fit()


def _asha(plan: SweepPlan, seed: int) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(
        time_attr=TIME,
        max_t=plan.updates,
        grace_period=plan.settings.grace or plan.interval,
        reduction_factor=plan.settings.reduction_factor,
    )


def _pbt(plan: SweepPlan, seed: int) -> Any:
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    def again(one: Choice | Interval) -> Any:
        """Return what a value is drawn from afresh."""
        if isinstance(one, Choice):
            return list(one.values)
        return (tune.loguniform if one.log else tune.uniform)(one.low, one.high)

    mutations = {one.key: again(one) for one in plan.space.dimensions}
    return _population(plan, seed, PopulationBasedTraining, hyperparam_mutations=mutations)


def _pb2(plan: SweepPlan, seed: int) -> Any:
    from ray.tune.schedulers.pb2 import PB2

    intervals = [one for one in plan.space.dimensions if isinstance(one, Interval)]
    bounds = {one.key: list(one.line) for one in intervals}
    return _population(plan, seed, PB2, hyperparam_bounds=bounds)


def _population(plan: SweepPlan, seed: int, scheduler: Any, **explored: Any) -> Any:
    class Population(scheduler):
        """Keeps trials' names apart, and numbers inside their intervals."""

        def _get_new_config(self, trial: Any, trial_to_clone: Any) -> Any:
            if hasattr(self, "data"):  # of pb2: results, in the order in which they came
                by = ["Time", "Trial"]
                self.data: Any = self.data.sort_values(by, kind="stable", ignore_index=True)
            with warnings.catch_warnings():
                # scikit-learn warns of every fit that ends at a bound.
                warnings.simplefilter("ignore")
                config, done = super()._get_new_config(trial, trial_to_clone)
            # A copy is the copier's own, with numbers inside their intervals.
            bounded = _config(plan, _values(plan, config))
            return {**config, **bounded, "trial": trial.config["trial"]}, done

    return seeded(
        Population,
        seed,
        time_attr=TIME,
        perturbation_interval=plan.interval,
        quantile_fraction=plan.settings.quantile,
        log_config=False,
        synch=True,
        **explored,
    )


_SCHEDULERS = {"asha": _asha, "pbt": _pbt, "pb2": _pb2}


def _config(plan: SweepPlan, values: Mapping[str, str]) -> dict[str, Any]:
    """Return values as Tune changes them: pbt by factors, pb2 by steps on a line."""
    return {
        one.key: values[one.key]
        if isinstance(one, Choice)
        else one.on_line(float(values[one.key]))
        if plan.settings.search == "pb2"
        else float(values[one.key])
        for one in plan.space.dimensions
    }


def _values(plan: SweepPlan, config: Config) -> dict[str, str]:
    """Return what Tune's configuration says, as text."""
    return {
        one.key: config[one.key]
        if isinstance(one, Choice)
        else one.text(one.off_line(config[one.key]))
        if plan.settings.search == "pb2"
        else one.text(config[one.key])
        for one in plan.space.dimensions
    }


def _trainable(place: Place) -> type:
    """Return the class of a trial; Ray sends it to its processes by value."""
    from ray import tune

    class Trial(tune.Trainable):
        """A trial of ours in Tune's hands."""

        def setup(self, config: Config) -> None:
            keep_memory()
            self.ours = SearchTrial(place)
            self.reset_config(config)

        def reset_config(self, new_config: Config) -> bool:
            self.ours.begin(new_config["trial"], _values(place.plan, new_config))
            return True

        def step(self) -> dict[str, Any]:
            return self.ours.step()

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            write_json(Path(checkpoint_dir) / POINTER, self.ours.state_dict())

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.ours.load_state_dict(read_json(Path(checkpoint) / POINTER))

        def cleanup(self) -> None:
            self.ours.close()

    return Trial


def _callback(watch: SearchWatch) -> Any:
    """Return a callback that lets the watch hear what Tune hears."""
    from ray import tune

    class Passed(tune.Callback):
        """Passes on what is ours."""

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Mapping[str, Any], **info: Any
        ) -> None:
            watch.heard(result)

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.started(trial.config["trial"])

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            watch.note("retried", trial.config["trial"])

        def __reduce__(self) -> tuple[type, tuple[()]]:
            # Tune notes its settings on disk and never reads them here: the watch stays out of it.
            return tune.Callback, ()

    return Passed()
