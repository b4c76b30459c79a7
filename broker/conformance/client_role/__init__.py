"""The cases for clients: the kit acts as the server and brings situations about."""

from .judging import SITUATIONS, judge_client, load_situations

__all__ = ["SITUATIONS", "judge_client", "load_situations"]
