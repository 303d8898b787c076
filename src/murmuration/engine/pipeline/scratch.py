"""What a reader thread owns: buffers that kernels fill, kept from request to request."""

from murmuration.engine.interaction_graph.salsa import SalsaScratch
from murmuration.engine.interaction_graph.similarity_kernels import CountScratch


class Scratch:
    """A reader thread's buffers. ``walks``: walks and second-degree counts; ``counts``: similar and related tweets."""

    def __init__(self) -> None:
        self.walks = SalsaScratch()
        self.counts = CountScratch()
