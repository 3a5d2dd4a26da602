"""The run as one self-contained HTML page with plots, as a short text, and as one picture.

All three take the same JSON-plain mapping. Every part may be absent, null or empty; NaN and null mean "not measured":

- ``title``, ``created`` (ISO), ``run_id``, ``status`` (``complete`` or anything else), ``warnings``: list of text
- ``recipe``: ``name, model, yaml, persona``; persona: ``name, summary, language, policies``; policy: ``id, text, severity, kind``
- ``system_prompt``, ``system_prompt_tokens``
- ``data``: ``sources`` (``name, rows, dropped``), ``steps`` (``name, rows_in, rows_out, drops``), ``splits`` (name -> rows),
  ``dropped`` (``reason, where``), ``lengths`` (``train``: tokens of each row); ``drops`` and ``dropped`` map reason -> count
- ``signal``: per training stage ``stage, rows, tokens, supervised_tokens, longest, mode, drops, sample``; the sample is decoded
  text with ``⟦`` and ``⟧`` around what is learned
- ``training``: per stage ``stage, trainable, total, metrics, seconds, curve``; curve: ``step, loss?, eval_loss?``
- ``comparisons``, ``items``: records of :class:`agentft.evaluate.compare.Comparison`; ``items`` are those of the checklist
- ``headline``: names of the comparisons that decide
- ``samples``: ``id, prompt`` (messages), ``reference, base, tuned``; answers: ``text, finish, error, verdicts, scores``
- ``rounds``: one entry a round: ``round, state, sentence, primary, promoted``; ``arms`` (``name`` champion / candidate / control,
  ``label``, ``values``: score -> ``value, ci, unit``); ``conditions`` (of the gate: ``name, kind, outcome, text``); ``flow`` (``name,
  count``); ``drops``; ``training`` (``arm, words, curve``); ``pairs`` (``prompt, rejected, chosen, origin, critique, mended``); ``moved``
  (checklist items: ``item, text, severity, before, after, count_fixed, count_broken``, and ``fixed, broken`` with ``prompt, before,
  after``); ``tokens`` (``prompt, pieces``: text and log-prob under the candidate minus under the base model); ``feedback``, ``critics``
- ``sample_selection``: one sentence on how the samples were chosen
- ``lineage``: ``nodes``: ``stage, key, reused, seconds, inputs, why``
- ``versions, hardware, profile``: (nested) names and values
"""

from __future__ import annotations

from agentft.report.page import render_report
from agentft.report.plots import save_overview_png
from agentft.report.verdict import summary_text

__all__ = ["render_report", "save_overview_png", "summary_text"]
