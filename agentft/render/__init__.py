"""Conversation -> text, token ids, spans and loss mask: the one path for training, evaluation, chat and serving."""

from agentft.render.conversation import Encoded, Renderer
from agentft.render.rows import RowsReport, read_rows, render_rows, show_mask
from agentft.render.system import system_prompt

__all__ = ["Encoded", "Renderer", "RowsReport", "read_rows", "render_rows", "show_mask", "system_prompt"]
