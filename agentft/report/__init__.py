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
- ``rounds``: one entry a round, the earliest first; each with

  - ``round`` (number), ``state`` (``promoted``, ``rejected`` or ``inconclusive``), ``promoted`` (name of an arm or null)
  - ``sentence`` (what the gate said), ``primary`` (name of the score that decides)
  - ``arms``: ``name`` (``champion, candidate, control``), ``label`` (how it was trained), ``values`` (score -> ``value, ci, unit``)
  - ``conditions``: ``name``, ``kind`` (``primary``, ``guardrail``, ``limit``, ``critic`` or ``pool``), ``outcome`` (``pass``, ``fail``,
    ``inconclusive`` or ``missing``), ``text``, ``difference, ci, unit``, ``needed`` (a number or a range of two)
  - ``flow`` (``name, count``; a name with "kept" is the yield), ``drops`` (reason -> count), ``critics`` (``name, calibrated, text``)
  - ``training``: ``arm``, ``words`` (sentences), ``curve`` (``step, loss?, margin?, drift?``)
  - ``pairs``: ``prompt`` (messages), ``rejected, chosen`` (texts), ``origin`` (one of :data:`~agentft.records.ORIGINS`),
    ``critique``, ``mended`` (items)
  - ``moved``: items of the checklist: ``item, text, severity``, ``before, after`` (shares), ``count_fixed?, count_broken?``, and ``fixed,
    broken``: ``prompt, before, after`` (texts)
  - ``tokens``: ``prompt, arm, answer``, ``pieces``: token text and its log-prob under the arm minus that under the base model (natural log)
  - ``feedback``: ``prompt, response, critic, critique``
- ``sample_selection``: one sentence on how the samples were chosen
- ``lineage``: ``nodes``: ``stage, key, reused, seconds, inputs, why``
- ``versions, hardware, profile``: (nested) names and values
"""

from __future__ import annotations

from agentft.report.page import render_report
from agentft.report.plots import save_overview_png
from agentft.report.rounds_plots import save_rounds_png
from agentft.report.verdict import summary_text

__all__ = ["render_report", "save_overview_png", "save_rounds_png", "summary_text"]
