"""What a run costs, before it starts."""

from __future__ import annotations

from automix.agents.config.settings import RunSettings
from automix.agents.contest.compare import matches_of
from automix.agents.contest.contestants import contestants_of
from automix.agents.contest.search import search_epochs, searching
from automix.agents.learning.algorithms import updates_of
from automix.agents.learning.export import learning_cost
from automix.envs.codec import ActionCodec
from automix.policy.policy import MixPolicy


def classifier_epochs(
    settings: RunSettings, learns: bool, policy: MixPolicy | None = None
) -> dict[str, int]:
    """Return the classifier epochs of each part of a run.

    Args:
        settings: Of the run.
        learns: Whether the agent learns in it.
        policy: That plays instead, if any; what controls may spend depends on its cost.
    """
    budget, agent = settings.trainer.epochs, settings.agent
    contestants = contestants_of(
        settings.compare.contestants, ActionCodec(settings.env.actions).choices
    )
    trials = len(contestants) * sum(match.trainings for match in matches_of(settings))
    updates = updates_of(agent, settings.env.steps(budget)) if learns else 0
    episodes = updates * agent.groups * agent.group_size
    fixed = sum(contestant.kind == "fixed" for contestant in contestants)
    validating = settings.compare.validation_draws * fixed
    learning = episodes * budget or learning_cost(policy)[0]
    searches = search_epochs(settings, learning) * len(searching(settings))
    epochs = {"learning": episodes * budget, "comparing": trials * budget}
    epochs |= {"validating": validating * budget} if validating else {}
    epochs |= {"searching": searches} if searches else {}
    return epochs
