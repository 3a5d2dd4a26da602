"""Names of the built-in commands and the lines that ``agentft --help`` shows. Plain data: a help page imports this only."""

COMMANDS = {
    "init": "Start a recipe for a persona in a new folder",
    "check": "Find every mistake in a recipe before anything runs",
    "data": "Preview what a recipe will train on",
    "run": "Do everything that a recipe says",
    "evaluate": "Compare base and tuned model on held-out prompts",
    "simulate": "Let an agent talk to users with tools and count the tasks it gets done",
    "evaluate-critic": "Hold a judge model against human labels",
    "refine": "Improve an agent in rounds of feedback, behind a gate",
    "rounds": "List, show, promote and roll back rounds",
    "pairs": "Show and export preference pairs",
    "annotate": "Rate, edit and comment on answers in the browser",
    "chat": "Talk to an agent in the terminal",
    "serve": "Serve agents through OpenAI's interface",
    "report": "Show or rebuild the report of a run",
    "runs": "List, show, compare and clean up runs",
    "personas": "List, show and render personas",
    "plugins": "List, show and examine plugins",
    "profile": "Show how models run on this machine",
    "models": "List and fetch models",
    "scale": "Memory and time of training on many GPUs, by arithmetic",
}
