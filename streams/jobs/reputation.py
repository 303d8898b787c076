"""The reputation job: PageRank over the follows of the frozen state (docs/reputation.md)."""

from config.jobs import ReputationJobConfig
from engine.models.specs import REPUTATION, ModelsConfig
from engine.reputation.compute import compute
from engine.reputation.model import decode
from engine.state import EngineState
from streams.jobs.job import Result

_HOUR_MS = 3_600_000
#: Room for the evaluation, which a packed result holds beside the model's bytes.
_EVALUATION_BYTES_MAX = 4096


class ReputationJob:
    """Computes model ``reputation``; the ranks start from those of the model in force, if any."""

    name = REPUTATION.name
    schema = REPUTATION.schema

    def __init__(self, config: ReputationJobConfig, models: ModelsConfig) -> None:
        self._config = config
        self.interval_ms = int(config.interval_h * _HOUR_MS)
        self.seconds_max = config.seconds_max
        self.result_bytes_max = REPUTATION.bytes_max(models) + _EVALUATION_BYTES_MAX

    def has_work(self, state: EngineState) -> bool:
        return state.social_graph.follow_count > 0

    def compute(self, state: EngineState) -> Result:
        config = self._config
        before = state.models.payload(self.name)
        computed = compute(
            state.social_graph.graph,
            state.profiles,
            decode(before) if before.size else None,
            clock_ms=state.clock_ms,
            jump=config.jump,
            iterations_max=config.iterations_max,
            change_max=config.change_max,
        )
        evaluation = computed.evaluation | {"state_version": float(state.version), "clock_ms": float(state.clock_ms)}
        return Result(computed.payload, evaluation)
