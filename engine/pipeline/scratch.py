"""What a reader thread owns: buffers that kernels fill, kept from request to request."""

from engine.half_life_blend import BlendScratch
from engine.interaction_graph.salsa import SalsaScratch
from engine.interaction_graph.similarity_kernels import CountScratch


class Scratch:
    """A reader thread's buffers.

    ``walks``: walks and second-degree counts; ``entities``: what counted tweets carry; ``counts``: similar and related
    tweets; ``blend``: time-aware scores.
    """

    def __init__(self) -> None:
        self.walks = SalsaScratch()
        self.entities = SalsaScratch()
        self.counts = CountScratch()
        self.blend = BlendScratch()
