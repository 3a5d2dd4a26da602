"""An agent in the form that another tool runs: weights, GGUF, ONNX ..., each checked against the agent."""
